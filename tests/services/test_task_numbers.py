"""Task numbers outside tell nothing of the ledger's, and lead back to them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import NotFound
from gateway.services.task_numbers import TaskNumbers

NUMBERS = TaskNumbers(b"a key")


@given(st.integers(0, 2**52 - 1))
def test_a_number_leads_back_to_its_task(task: int) -> None:
    """And stays small enough for JavaScript."""
    outside = NUMBERS.outside(task)
    assert 0 <= outside < 2**52
    assert NUMBERS.inside(outside) == task


def test_numbers_do_not_tell_which_task_is_newer() -> None:
    """Of a thousand neighbours about half go up; four standard deviations are 63."""
    outside = [NUMBERS.outside(task) for task in range(1001)]
    rises = sum(one < other for one, other in pairwise(outside))
    assert 437 < rises < 563
    assert len(set(outside)) == 1001


def test_another_key_gives_other_numbers() -> None:
    """Who knows one gateway's learns nothing of another's."""
    assert [TaskNumbers(b"b").outside(task) for task in range(9)] != [
        NUMBERS.outside(task) for task in range(9)
    ]


@pytest.mark.parametrize("number", [2**52, 2**63, 2**64 - 1])
def test_a_number_that_no_task_has_is_not_found(number: int) -> None:
    """Whatever comes over the wire."""
    with pytest.raises(NotFound, match=str(number)):
        NUMBERS.inside(number)
