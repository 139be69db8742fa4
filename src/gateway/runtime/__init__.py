"""Settings and what was learnt become a policy; the data plane runs it; its records come back.

In: checked settings, the ledger's policy versions, review shares. Out: published policies, batches of records.
Never: touches a call, or talks to a network other than through the data plane.

What settings are made of is loaded when it is asked for: a sidecar runs the data plane by a policy that control made,
and carries none of it. `check` and `document` are named like the modules they live in, and are taken from there.

    certificates        what is wrong with their files, and when to read them again
    check               everything that can be wrong with settings before they are used
    document, names     settings -> the policy document, and the names behind its indexes
    secrets             salt and receipt keys, given or made once and kept
    rules               functions that rules name: which, and what is wrong with them
    rule_workers        the same, judged in processes of their own
    desk                the questions of calls, brought to people and to those processes
    plane               starts, publishes to, drains and stops the data plane
    batch               what comes out of it
    receipts            what callers hand back
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from gateway.runtime.batch import Batch, Columns, PolicyNames, names
from gateway.runtime.plane import Plane, PlaneOptions, PolicyError, Subscriber
from gateway.runtime.receipts import verify_receipt

if TYPE_CHECKING:
    from gateway.runtime.certificates import CertificateWatch, certificate_files, listen_tls
    from gateway.runtime.check import preflight
    from gateway.runtime.document import FIRST_SHARES, ReviewShares
    from gateway.runtime.rule_workers import RULE_ERRORS, RuleWorkers
    from gateway.runtime.rules import functions_of
    from gateway.runtime.secrets import Secrets, kept_secrets

__all__ = [
    "FIRST_SHARES",
    "RULE_ERRORS",
    "Batch",
    "CertificateWatch",
    "Columns",
    "Plane",
    "PlaneOptions",
    "PolicyError",
    "PolicyNames",
    "ReviewShares",
    "RuleWorkers",
    "Secrets",
    "Subscriber",
    "certificate_files",
    "functions_of",
    "kept_secrets",
    "listen_tls",
    "names",
    "preflight",
    "verify_receipt",
]

HOMES: Final = {
    "CertificateWatch": "certificates",
    "certificate_files": "certificates",
    "listen_tls": "certificates",
    "preflight": "check",
    "FIRST_SHARES": "document",
    "ReviewShares": "document",
    "RULE_ERRORS": "rule_workers",
    "RuleWorkers": "rule_workers",
    "functions_of": "rules",
    "Secrets": "secrets",
    "kept_secrets": "secrets",
}
"""Where the names live that are loaded when they are asked for."""


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
