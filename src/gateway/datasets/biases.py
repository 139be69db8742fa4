"""What whoever uses a data set should know of how its rows came about, in words: each with its number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.ledger import REVIEW

__all__ = ["biases"]


def biases(card: Mapping[str, Any]) -> Iterator[str]:
    """Sentences; only those that hold for these rows.

    Args:
        card: what is in card.json so far.
    """
    splits = list(card["splits"].values())
    rows = card["rows"]

    def of(name: str, *values: str) -> int:
        return sum(one["by"][name].get(value, 0) for one in splits for value in values)

    def total(name: str) -> int:
        return int(sum(one[name] for one in splits))

    reviews = of("source", REVIEW)
    if feedback := rows - reviews:
        yield (
            f"{feedback:,} of {rows:,} rows are feedback. Who answers is not random: they have no weight, and no "
            "number computed from them alone holds for all predictions."
        )
    if undrawn := reviews - sum(one["weights"]["rows"] for one in splits):
        yield (
            f"{undrawn:,} rows were reviewed without having been drawn by chance, such as calls that waited for "
            "people; they have no weight either."
        )
    if held_out := of("outcome", "holdout"):
        yield (
            f"{held_out:,} rows are of the holdout: a fixed answer stands there, no model's prediction. Good for "
            "training, wrong for judging a model."
        )
    if human := of("outcome", "human"):
        yield f"{human:,} rows were answered by people; there was no prediction that could be right or wrong."
    if others := of("outcome", "fallback", "static"):
        yield (
            f"{others:,} rows were answered by a fallback or a static answer: score, confidence and flag are that "
            "backend's, and these calls are harder, or stranger, than the others."
        )
    if explored := total("explored"):
        least = min(one["least_propensity"] for one in splits)
        yield (
            f"{explored:,} rows were made while arms took turns (least propensity {least:g}): to compare backends, "
            "weight by 1/propensity besides."
        )
    strata = [one for route in card["coverage"].values() for one in route["review"].values()]
    drawn, done = sum(one["sampled"] for one in strata), sum(one["reviewed"] for one in strata)
    if missing := drawn - done:
        yield (
            f"{missing:,} of {drawn:,} predictions drawn for review have no answer yet. Labels come late, so the "
            "newest predictions are underrepresented, and what reviewers skip is missing."
        )
    if unseen := total("never_sampled"):
        yield (
            f"{unseen:,} rows had no chance of being drawn for review (inclusion probability 0): no weight can make "
            "the others speak for their kind."
        )
    if corrected := total("corrected"):
        yield f"{corrected:,} labels were corrected by their source at least once; the last word stands here."
    if card["split"] is not None and (unknown := total("unknown_unit")):
        yield (
            f"Of {unknown:,} rows nobody knows the unit; each call counts as one of its own, so a unit may be in "
            "more than one split."
        )
    if len({policy for one in splits for policy in one["by"]["policy"]}) > 1:
        yield (
            "Several policies made these decisions: thresholds and review probabilities differ among the rows, and "
            "every row has its own."
        )
