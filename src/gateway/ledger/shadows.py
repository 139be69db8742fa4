"""What comparisons with shadows come to: how often they agree, by how much they differ, and what of it is no noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.ledger.reading import Shadows
from gateway.quality import Differences, Estimate, Excess, mean_excess, share, share_excess

__all__ = ["Comparison", "ShadowReport", "shadow_reports"]

Rows = NDArray[np.bool_]

NO_LABELS = "no prediction yet for which both answers have a label"
NO_NOISE = "no twin of the primary is compared: name one as the mirror's `noise`"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One set of answers beside those that callers got.

    `compared`: predictions with both answers. `failed`: without the other one's. `agreement`: share with the same label
    (or the same side of the threshold, without labels). `mean_difference`, `mean_absolute_difference`: of the scores,
    the other's less the caller's; None without scores.
    """

    compared: int
    failed: int
    agreement: Estimate
    mean_difference: float | None
    mean_absolute_difference: float | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "compared": self.compared,
            "failed": self.failed,
            "agreement": self.agreement.as_dict(),
            "mean_difference": self.mean_difference,
            "mean_absolute_difference": self.mean_absolute_difference,
        }


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """How a shadow's answers compare with those that callers got.

    `all`: all of them. `noise`: the primary's own twin beside the primary, None where none is named.
    `disagreement`, `score_difference`: what is above that noise, of the calls that the primary answered. `segments`: by
    segment, where there is more than one, the comparison and the disagreement above the noise.
    """

    shadow: str
    all: Comparison
    noise: Comparison | None
    disagreement: Excess
    score_difference: Excess
    segments: tuple[tuple[str, Comparison, Excess], ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.all.as_dict(),
            "noise": None if self.noise is None else self.noise.as_dict(),
            "above_noise": {
                "disagreement": self.disagreement.as_dict(),
                "score_difference": self.score_difference.as_dict(),
            },
            "segments": {
                segment: {**found.as_dict(), "disagreement_above_noise": excess.as_dict()}
                for segment, found, excess in self.segments
            },
        }


def shadow_reports(shadows: Shadows, route: str) -> tuple[ShadowReport, ...]:
    """Every shadow of a route."""
    of_route = shadows.route == route
    return tuple(
        _report(shadows, str(name), of_route & (shadows.shadow == name))
        for name in np.unique(shadows.shadow[of_route])
    )


def _report(shadows: Shadows, name: str, here: Rows) -> ShadowReport:
    candidate, noise = here & (shadows.noise == 0), here & (shadows.noise == 1)
    # The twin is compared where the primary answered, so what is held against it is of these calls alone.
    comparable = candidate & np.isin(shadows.backend, shadows.backend[noise])
    segments = [str(segment) for segment in np.unique(shadows.segment[candidate]) if segment]
    found = []
    for segment in segments:
        within = shadows.segment == segment
        excess = _disagreement(shadows, comparable & within, noise & within)
        found.append((segment, _comparison(shadows, candidate & within), excess))
    return ShadowReport(
        shadow=name,
        all=_comparison(shadows, candidate),
        noise=_comparison(shadows, noise) if noise.any() else None,
        disagreement=_disagreement(shadows, comparable, noise),
        score_difference=_score_difference(shadows, comparable, noise),
        segments=tuple(found),
    )


def _comparison(shadows: Shadows, rows: Rows) -> Comparison:
    differences = int(shadows.differences[rows].sum())
    return Comparison(
        compared=int(shadows.compared[rows].sum()),
        failed=int(shadows.failed[rows].sum()),
        agreement=share(int(shadows.agreed[rows].sum()), int(shadows.judged[rows].sum()), NO_LABELS),
        mean_difference=float(shadows.sum_difference[rows].sum()) / differences if differences else None,
        mean_absolute_difference=float(shadows.sum_absolute[rows].sum()) / differences
        if differences
        else None,
    )


def _disagreement(shadows: Shadows, candidate: Rows, noise: Rows) -> Excess:
    judged, twin_judged = (int(shadows.judged[rows].sum()) for rows in (candidate, noise))
    agreed, twin_agreed = (int(shadows.agreed[rows].sum()) for rows in (candidate, noise))
    if not noise.any():
        return Excess(None, None, None, judged, 0, None, NO_NOISE)
    return share_excess(judged - agreed, judged, twin_judged - twin_agreed, twin_judged)


def _score_difference(shadows: Shadows, candidate: Rows, noise: Rows) -> Excess:
    found, twin = (
        Differences(
            int(shadows.differences[rows].sum()),
            float(shadows.sum_absolute[rows].sum()),
            float(shadows.sum_squared[rows].sum()),
        )
        for rows in (candidate, noise)
    )
    if not noise.any():
        return Excess(None, None, None, found.count, 0, None, NO_NOISE)
    return mean_excess(found, twin)
