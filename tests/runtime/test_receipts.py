"""A receipt is believed only when one of this gateway's keys signed it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway._dataplane import sign_receipt
from gateway.errors import ReceiptError
from gateway.runtime import verify_receipt

KEY = b"k" * 32
OTHER = b"o" * 32
FIELDS = {
    "id": bytes(range(16)),
    "policy": 7,
    "route": "spam",
    "backend": "spam-v3",
    "segment": "device=phone",
    "rows": [
        {"score": 0.25, "flagged": False, "sampled": True, "outcome": "model", "class": 0, "review_pi": 0.5}
    ],
}


def test_fields_come_back_as_they_were_signed() -> None:
    """What a label is counted by is what the gateway decided."""
    found = verify_receipt(sign_receipt(FIELDS, KEY), [OTHER, KEY])
    assert {name: found[name] for name in FIELDS} == FIELDS


def test_foreign_key_is_told_from_a_forgery() -> None:
    """The mend differs: a key that was rotated away must be put back, a forgery must not be believed."""
    with pytest.raises(ReceiptError) as foreign:
        verify_receipt(sign_receipt(FIELDS, OTHER), [KEY])
    assert foreign.value.kind == "foreign"
    good = sign_receipt(FIELDS, KEY)
    score = 60  # a character that encodes part of the row's score
    forgery = good[:score] + ("A" if good[score] != "A" else "B") + good[score + 1 :]
    with pytest.raises(ReceiptError) as forged:
        verify_receipt(forgery, [KEY])
    assert forged.value.kind == "forged"


@given(st.text(max_size=300))
def test_any_text_is_refused_with_a_reason(text: str) -> None:
    """Nothing that a caller sends is believed or breaks the reader."""
    with pytest.raises(ReceiptError) as refused:
        verify_receipt(text, [KEY])
    assert refused.value.kind in {"malformed", "foreign", "forged"}
