"""Receipts, checked against their written form by an encoder that is not the data plane's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import struct
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import _dataplane
from gateway.types import Outcome

KEY = b"k" * 32
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBER = st.floats(-1, 1, width=32)
ROWS = st.fixed_dictionaries(
    {
        "score": st.none() | NUMBER,
        "flagged": st.none() | st.booleans(),
        "sampled": st.booleans(),
        "outcome": st.sampled_from([outcome.text for outcome in Outcome]),
        "class": st.none() | st.integers(0, 254),
        "review_pi": NUMBER,
    }
)
FIELDS = st.fixed_dictionaries(
    {
        "id": st.binary(min_size=16, max_size=16),
        "policy": st.integers(0, 2**32 - 1),
        "route": TEXT,
        "backend": TEXT,
        "segment": st.text("abc=,", max_size=64),
        "arm": st.none() | TEXT,
        "propensity": st.floats(0, 1, width=32),
        "rows": st.lists(ROWS, max_size=5),
    }
)


def encode(fields: dict[str, Any], key: bytes) -> str:
    """The written form, step by step."""
    explores = fields["arm"] is not None
    body = (
        bytes([2 if explores else 1, hashlib.sha256(key).digest()[0]])
        + fields["id"]
        + struct.pack("<I", fields["policy"])
    )
    for name in ("route", "backend", "segment", "arm") if explores else ("route", "backend", "segment"):
        text = fields[name].encode()
        body += bytes([len(text)]) + text
    if explores:
        body += struct.pack("<f", fields["propensity"])
    body += struct.pack("<H", len(fields["rows"]))
    for row in fields["rows"]:
        flags = (row["flagged"] is True) | row["sampled"] << 1 | (row["flagged"] is not None) << 2
        flags |= Outcome[row["outcome"].upper()] << 3
        score = math.nan if row["score"] is None else row["score"]
        label = 255 if row["class"] is None else row["class"]
        body += struct.pack("<fBBf", score, flags, label, row["review_pi"])
    body += hmac.new(key, body, hashlib.sha256).digest()[:16]
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


@given(fields=FIELDS, key=st.binary(min_size=1, max_size=80))
def test_a_receipt_is_its_written_form(fields: dict[str, Any], key: bytes) -> None:
    """Others (the SDK, a fleet's control plane) may read receipts by the documented form."""
    receipt = _dataplane.sign_receipt(fields, key)
    assert receipt == encode(fields, key)
    found = _dataplane.verify_receipt(receipt, [b"a newer key", key])
    time_ms = int.from_bytes(fields["id"][:6], "big")
    # Where nothing is explored, who was asked first was certain.
    certain = {} if fields["arm"] is not None else {"propensity": 1.0}
    assert found == fields | {"time_ms": time_ms} | certain


def plain() -> dict[str, Any]:
    row = {
        "score": 0.5,
        "flagged": True,
        "sampled": False,
        "outcome": "model",
        "class": 1,
        "review_pi": 0.25,
    }
    identity = uuid.UUID("01930000-0000-7000-8000-000000000000").bytes
    told = {"id": identity, "policy": 7, "route": "spam", "backend": "v3", "segment": "", "rows": [row]}
    return told | {"arm": None, "propensity": 1.0}


@pytest.mark.parametrize(
    ("receipt", "kind"),
    [
        ("", "malformed"),
        ("not a receipt!", "malformed"),
        (_dataplane.sign_receipt(plain(), KEY)[:-4], "malformed"),
        (_dataplane.sign_receipt(plain(), b"another key"), "foreign"),
        (encode(plain(), KEY)[:-1] + ("A" if encode(plain(), KEY)[-1] != "A" else "Q"), "forged"),
        ("A" * 100_000, "malformed"),
    ],
    ids=["empty", "words", "cut", "foreign", "forged", "huge"],
)
def test_a_receipt_that_is_not_ours_is_refused_by_kind(receipt: str, kind: str) -> None:
    """Feedback answers each kind with a status of its own."""
    with pytest.raises(_dataplane.ReceiptError) as caught:
        _dataplane.verify_receipt(receipt, [KEY])
    found, words = caught.value.args
    assert found == kind
    assert words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": [{**plain()["rows"][0], "outcome": "nobody"}]}, "an unknown outcome 'nobody'"),
        ({"route": "r" * 256}, "255 bytes"),
        ({"rows": plain()["rows"] * 257}, "at most 256"),
    ],
)
def test_what_no_receipt_can_say_is_not_signed(change: dict[str, Any], words: str) -> None:
    """A receipt is whole or not at all."""
    with pytest.raises(ValueError, match=words):
        _dataplane.sign_receipt(plain() | change, KEY)


def test_a_missing_field_is_named() -> None:
    """Whoever re-issues receipts is told what is missing."""
    fields = plain()
    del fields["policy"]
    with pytest.raises(ValueError, match="without 'policy'"):
        _dataplane.sign_receipt(fields, KEY)
