"""Agreement of reviewers, against statsmodels and scikit-learn, and by its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.errors import QualityError
from gateway.quality.agreement import Agreement, cohen_kappa, fleiss_kappa

Pair = tuple[np.ndarray, np.ndarray]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Two reviewers' answers."""
    categories, n = draw(st.integers(2, 5)), draw(st.integers(2, 60))
    one, other = (draw(arrays.arrays(np.int64, n, elements=st.integers(0, categories - 1))) for _ in "ab")
    return one, other, categories


@settings(deadline=None)
@given(pairs())
def test_cohens_kappa_is_that_of_statsmodels_and_scikit_learn(
    made: tuple[np.ndarray, np.ndarray, int],
) -> None:
    """Value and interval; where all answers are the same there is none, as theirs is NaN."""
    from sklearn.metrics import cohen_kappa_score
    from statsmodels.stats.inter_rater import cohens_kappa

    one, other, categories = made
    found = cohen_kappa(one, other, categories)
    assert found.agree == pytest.approx(float(np.mean(one == other)))
    assert found.tasks == len(one)
    table = np.zeros((categories, categories))
    np.add.at(table, (one, other), 1)
    if len(set(one) | set(other)) == 1:
        assert (found.kappa, found.low, found.high) == (None, None, None)
        return
    with np.errstate(invalid="ignore"):  # its variance may be a little below zero; ours is then zero
        oracle = cohens_kappa(table)
    assert found.kappa == pytest.approx(oracle.kappa, abs=1e-12)
    assert found.kappa == pytest.approx(cohen_kappa_score(one, other, labels=range(categories)), abs=1e-12)
    if not np.isnan(oracle.kappa_low):
        assert found.low == pytest.approx(max(-1.0, oracle.kappa_low), abs=1e-5)
        assert found.high == pytest.approx(min(1.0, oracle.kappa_upp), abs=1e-5)


@settings(deadline=None)
@given(st.integers(2, 6), st.data())
def test_fleiss_kappa_is_that_of_statsmodels(answers: int, data: st.DataObject) -> None:
    """Where every task has as many answers; statsmodels knows no other case."""
    from statsmodels.stats.inter_rater import aggregate_raters
    from statsmodels.stats.inter_rater import fleiss_kappa as oracle

    said = data.draw(
        arrays.arrays(np.int64, (data.draw(st.integers(1, 40)), answers), elements=st.integers(0, 3))
    )
    table, _ = aggregate_raters(said, n_cat=4)
    found = fleiss_kappa(table.astype(np.int64))
    if len(np.unique(said)) == 1:
        assert found.kappa is None
        return
    assert found.kappa == pytest.approx(float(oracle(table)), abs=1e-12)
    if found.low is not None and found.high is not None:
        assert -1.0 <= found.low <= found.kappa <= found.high <= 1.0


def test_fleiss_takes_tasks_with_different_numbers_of_answers() -> None:
    """By hand: (1 + 1/3)/2 agree; shares 4/5 and 1/5."""
    found = fleiss_kappa(np.array([[2, 0], [2, 1]]))
    expected = 0.8**2 + 0.2**2
    assert found.agree == pytest.approx(2 / 3)
    assert found.kappa == pytest.approx((2 / 3 - expected) / (1 - expected))


def test_agreement_of_two_is_the_same_task_by_task_or_as_a_table() -> None:
    """Fleiss with two answers a task is Scott's pi; with like frequencies, nearly Cohen's kappa."""
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 2, 4000)
    one, other = (np.where(generator.random(4000) < 0.1, 1 - truth, truth) for _ in "ab")
    table = np.stack([(one == 0).astype(int) + (other == 0), (one == 1).astype(int) + (other == 1)], axis=1)
    cohen, fleiss = cohen_kappa(one, other, 2), fleiss_kappa(table.astype(np.int64))
    for name in ("agree", "kappa", "low", "high"):
        assert getattr(cohen, name) == pytest.approx(getattr(fleiss, name), abs=2e-3)


@pytest.mark.parametrize("kind", ["cohen", "fleiss"])
def test_the_interval_holds_the_truth_as_often_as_it_says(kind: str) -> None:
    """300 samples of 150 tasks, 10 % errors of each of two reviewers; kappa of the population is (p - e)/(1 - e)."""
    generator = np.random.default_rng(7)
    share = 0.3
    said = share * 0.9 + (1 - share) * 0.1
    observed, expected = 0.9**2 + 0.1**2, said**2 + (1 - said) ** 2
    kappa = (observed - expected) / (1 - expected)
    held = 0
    for _ in range(300):
        truth = generator.random(150) < share
        one, other = (np.where(generator.random(150) < 0.1, ~truth, truth).astype(np.int64) for _ in "ab")
        if kind == "cohen":
            found: Agreement = cohen_kappa(one, other, 2)
        else:
            found = fleiss_kappa(np.stack([2 - one - other, one + other], axis=1))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= kappa <= found.high
    # 95 % of 300 is 285; four standard deviations of a fair coin of that kind are 15.
    assert held >= 270


@pytest.mark.parametrize(
    "work",
    [
        lambda: cohen_kappa(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 2),
        lambda: cohen_kappa(np.array([0, 1]), np.array([0]), 2),
        lambda: cohen_kappa(np.array([0, 2]), np.array([0, 1]), 2),
        lambda: fleiss_kappa(np.zeros((0, 2), dtype=np.int64)),
        lambda: fleiss_kappa(np.array([[1, 0]])),
        lambda: fleiss_kappa(np.array([[3, -1]])),
    ],
)
def test_what_gives_no_agreement_is_refused(work: object) -> None:
    """With what was found and wanted."""
    with pytest.raises(QualityError, match="found"):
        work()  # type: ignore[operator]


def test_one_task_has_no_interval() -> None:
    """Nothing is left when it is left out."""
    found = fleiss_kappa(np.array([[2, 1]]))
    assert found.kappa is not None
    assert (found.low, found.high) == (None, None)
