"""A call that is only thought of, walked through by the code that decides real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway._dataplane import Policy
from gateway.config import Settings
from gateway.runtime.document import document
from gateway.runtime.rules import asking
from gateway.runtime.secrets import kept_secrets

__all__ = ["explain_call"]


def explain_call(settings: Settings, call: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What would happen to a call, and why.

    Choices by hash are those of the running gateway where its secrets are in `state_dir`; else of a new salt.

    Args:
        call: `model`, `method`, `metadata`, `params`, `rows`, `id`; `answers` by backend and `answer` of all others,
            each one of `score`, `scores`, `label`, `value` (with `confidence`), `error`, `timeout`.
        folder: where modules of rules in Python are looked for first; such rules are really asked.
    Returns: `steps` (each with `step` and `text`) and `decision`.
    """
    kept = kept_secrets(settings, make=False)
    policy = document(settings, version=1, salt_hex=kept.salt_hex, receipt_keys=kept.receipt_keys)
    with asking(settings, folder) as ask:
        explained: dict[str, Any] = json.loads(Policy(json.dumps(policy)).explain(json.dumps(call), ask))
    return explained
