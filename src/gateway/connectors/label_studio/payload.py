"""What Label Studio is given: a task's data, and a labelling interface whose choices are a route's classes."""

from __future__ import annotations

import datetime
import json
import re
import uuid
from collections.abc import Sequence
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from gateway.ledger import Lease, RouteClasses
from gateway.services.oip import readable_row
from gateway.services.readable import Messages

__all__ = ["CONTROL", "MOST_SHOWN", "config_xml", "key_of", "parse_key", "task_json"]

MOST_SHOWN: Final = 65_536
"""Characters of a request that are sent; that there were more is said in their place."""

CONTROL: Final = "label"
"""Name of the <Choices> in the interface that `config_xml` makes."""

_KEY: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):([0-9]{1,9})\Z")

_VIEW: Final = """\
<View>
  <Header value="$route, row $row, $time"/>
  <Text name="request" value="$request"/>
  <Choices name="{control}" toName="request" choice="single" required="true" showInline="true">
{choices}
  </Choices>
</View>
"""


def key_of(decision: bytes, row: int) -> str:
    """What a task is found again by, there and here."""
    return f"{uuid.UUID(bytes=decision)}:{row}"


def parse_key(text: str) -> tuple[bytes, int] | None:
    """Decision id and row of a key; None where it is none."""
    found = _KEY.match(text)
    return (uuid.UUID(found[1]).bytes, int(found[2])) if found else None


def config_xml(classes: Sequence[str]) -> str:
    """The labelling interface for a project."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    return _VIEW.format(control=CONTROL, choices=choices)


def task_json(
    lease: Lease, messages: Messages | None, classes: RouteClasses | None, *, show: bool
) -> dict[str, Any]:
    """A task in Label Studio's JSON. Without `show` nothing of what the model said, and never how it was sampled.

    Returns: `{"data": {...}}`; `data.gateway` is the key.
    """
    facts = lease.facts
    time = datetime.datetime.fromtimestamp(facts.time_us // 1_000_000, datetime.UTC)
    task: dict[str, Any] = {
        "data": {
            "gateway": key_of(lease.decision, lease.row),
            "route": facts.route,
            "row": lease.row,
            "time": time.isoformat(),
            "request": _request(lease, messages),
        }
    }
    if show and lease.label is not None and classes is not None and lease.label in classes.classes:
        chosen = {
            "from_name": CONTROL,
            "to_name": "request",
            "type": "choices",
            "value": {"choices": [lease.label]},
        }
        task["predictions"] = [{"model_version": facts.backend, "result": [chosen]}]
    return task


def _request(lease: Lease, messages: Messages | None) -> str:
    read = messages.request(lease.facts.route, lease.request) if messages is not None else None
    if read is not None and read.type:
        text = read.json or f"A {read.type} that cannot be shown, of {len(lease.request):,} bytes"
    else:
        row = readable_row(lease.request, lease.row)
        if row is None:
            return f"A request that cannot be shown, of {len(lease.request):,} bytes"
        inputs = row["inputs"]
        lone = next(iter(inputs.values())) if len(inputs) == 1 else None
        text = lone if isinstance(lone, str) else json.dumps(inputs, indent=1, ensure_ascii=False)
    if len(text) > MOST_SHOWN:
        text = f"{text[:MOST_SHOWN]}\n... cut here; the whole has {len(text):,} characters"
    return text or "(empty)"
