"""Who may review where other machines reach the port: said before the first reviewer is refused."""

from __future__ import annotations

import pytest

from gateway.config import read_text
from tests.config.examples import TEN_LINES

OPEN = 'listen: {inference: "0.0.0.0:8080"}\n'
REVIEW = "    review: {queue: moderation}\n"
TOKEN = "token: sixteen-characters-or-more"


def warnings(text: str) -> list[str]:
    read = read_text(text, env={})
    assert read.settings is not None, read.faults
    return [str(one) for one in read.warnings if "may review" in str(one)]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (OPEN + TEN_LINES + REVIEW, True),
        (TEN_LINES + REVIEW, False),
        (OPEN + TEN_LINES, False),
        (OPEN + f"access: {{anna: {{role: reviewer, {TOKEN}}}}}\n" + TEN_LINES + REVIEW, False),
        (OPEN + f"access: {{anna: {{role: viewer, {TOKEN}}}}}\n" + TEN_LINES + REVIEW, True),
    ],
)
def test_review_from_elsewhere_without_a_reviewer_is_a_warning(text: str, warned: bool) -> None:
    """With the line of the address, and what to write."""
    found = warnings(text)
    assert bool(found) is warned
    assert all("1:21" in one and "role: reviewer" in one for one in found)
