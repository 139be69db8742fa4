"""A card as text: what README.md of a data set says. Nothing is counted here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["MOST_LINES", "readme"]

MOST_LINES: Final = 20
"""Values of a column that the text names; card.json has the others."""

_NAMED: Final = {"label": "class", "positive": "positive", "stratum": "stratum of the sample"}

_SPLITS: Final = {
    "time": "by the time of the prediction, earliest first: all labels of a call are in one split, and a unit that is "
    "seen in a later split was taken out of the earlier ones",
    "unit": "by a salted hash of the unit: all rows of a unit are in one split, in every export of this gateway",
}

_WHY: Final = {
    "in_gap": "in the gap after a cut",
    "unit_in_later_split": "of a unit that a later split has",
    "unit_unknown": "of a unit that nobody knows",
    "inputs_unreadable": "captured, and not readable as its protocol says",
    "request_unreadable": "captured, and not readable by its descriptor",
    "request_withheld": "captured, and withheld: today's settings redact a path that is not understood",
    "policy_not_kept": "captured under a policy that is no longer kept, which said how to read it",
    "more_inputs": "captured with inputs that got no column (too many names, or an unknown datatype)",
}


def readme(card: Mapping[str, Any]) -> str:
    """The text, in Markdown."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Mapping[str, Any]) -> Iterator[str]:
    made, window = card["made"], card["window"]
    about = f" of the route {_code(window['route'])}" if window["route"] else ""
    yield f"# {card['rows']:,} labelled decisions{about}"
    yield ""
    yield (
        f"Made {made['at']} by {made['by']} (ledger schema {made['ledger_schema']}), with predictions from "
        f"{window['since'] or 'the beginning'} to {window['until'] or 'then'}:"
    )
    yield from ("", "```sh", made["command"] or "gateway export", "```", "")
    yield "All numbers of this page, and more, stand in `card.json`; they were counted as the files were written."
    yield from _files(card)
    yield from _counts(card)
    yield from _chosen(card)
    yield from _weights(card)
    yield from _inputs(card)
    yield from ("", "## What to beware of", "")
    yield from (f"- {sentence}" for sentence in card["biases"] or ["Nothing that the gateway knows of."])


def _files(card: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## Files", "")
    splits = card["splits"]
    yield from _table(
        (
            "file",
            "rows",
            "predictions",
            "calls",
            "first",
            "last",
            "reviewed with a weight",
            "effective sample size",
        ),
        (
            (
                f"`{name}.parquet`",
                one["rows"],
                one["predictions"],
                one["calls"],
                *one["time"],
                one["weights"]["rows"],
                _number(one["weights"]["effective_sample_size"]),
            )
            for name, one in splits.items()
        ),
    )
    yield ""
    yield (
        "A row is what one source says about one prediction. The effective sample size is Kish's: how many equally "
        "weighted labels the weighted ones are worth."
    )
    if card["split"] is not None:
        yield ""
        yield f"Split (`{card['split']['asked']}`) {_SPLITS[card['split']['by']]}."
        if card["split"]["gap_h"]:
            yield f"{card['split']['gap_h']:g} h after each cut were left out."
        cuts = ", ".join(f"{cut:g}" if isinstance(cut, float) else cut for cut in card["split"]["cuts"])
        yield f"Cut at {cuts}."
    left_out = [f"{count:,} rows {_WHY[reason]}" for reason, count in card["dropped"].items() if count]
    if left_out:
        yield from ("", f"Left out: {'; '.join(left_out)}.")


def _counts(card: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## What is in them")
    splits = card["splits"]
    columns = [(name, {split: one["by"][name] for split, one in splits.items()}) for name in _columns(splits)]
    keys = sorted({key for one in splits.values() for key in one["segments"]})
    columns += [
        (f"segment.{key}", {split: one["segments"].get(key, {}) for split, one in splits.items()})
        for key in keys
    ]
    for name, by_split in columns:
        total: dict[str, int] = {}
        for counts in by_split.values():
            for value, count in counts.items():
                total[value] = total.get(value, 0) + count
        if not any(total):  # nothing but nulls
            continue
        ranked = sorted(total, key=lambda value: (-total[value], value))
        yield ""
        yield from _table(
            (_NAMED.get(name, name), *by_split),
            (
                (_value(value), *(by_split[split].get(value, 0) for split in by_split))
                for value in ranked[:MOST_LINES]
            ),
        )
        if len(ranked) > MOST_LINES:
            yield from ("", f"... and {len(ranked) - MOST_LINES:,} more, see card.json.")
    yield from ("", "From the prediction to its label it took", "")
    delays = next(iter(splits.values()))["label_delay"]
    yield from _table(
        ("less than", *splits),
        ((name, *(one["label_delay"][name] for one in splits.values())) for name in delays),
    )
    shared = [
        (name, one["several_reviews"]) for name, one in splits.items() if one["several_reviews"]["rows"]
    ]
    if shared:
        yield from ("", "Where several reviewers answered, so many of them say what the label says:", "")
        yield from _table(
            ("split", "labels", "mean share"),
            ((name, one["rows"], f"{one['mean_agreement']:.1%}") for name, one in shared),
        )
    if card["agreement"]:
        yield from ("", "Where two sources spoke of the same prediction:", "")
        yield from _table(
            ("sources", "predictions", "agree", "share"),
            (
                (
                    " and ".join(_code(source) for source in pair["sources"]),
                    pair["predictions"],
                    pair["agree"],
                    f"{pair['agree'] / pair['predictions']:.1%}",
                )
                for pair in card["agreement"]
            ),
        )


def _columns(splits: Mapping[str, Any]) -> Sequence[str]:
    return list(next(iter(splits.values()))["by"])


def _chosen(card: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## How the rows were chosen", "")
    yield (
        "Rows of source `review` were drawn by chance: `inclusion_probability` is the probability of each one, "
        "`stratum` why it is that. All other sources gave labels of their own accord: for them "
        "`inclusion_probability` only says with what probability the prediction would have been reviewed."
    )
    yield ""
    rows = []
    for route, of in card["coverage"].items():
        share = f"{of['labelled'] / of['predictions']:.2%}" if of["predictions"] else ""
        rows.append((_code(route), of["predictions"], of["labelled"], share))
    yield "In this window the gateway made so many predictions, and so many have a label from anybody:"
    yield ""
    yield from _table(("route", "predictions", "labelled", "share"), rows)
    strata = [
        (_code(route), _value(stratum), one["sampled"], f"{one['mean_probability']:.4g}", one["reviewed"])
        for route, of in card["coverage"].items()
        for stratum, one in of["review"].items()
    ]
    if strata:
        yield from ("", "Of the review sample:", "")
        yield from _table(("route", "stratum", "drawn", "mean probability", "reviewed"), strata)


def _weights(card: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## How to use the weights", "")
    yield (
        "`weight` is 1/`inclusion_probability` for rows of the review sample and null for all others. With it the "
        "sample speaks for all predictions that could be drawn: pass it as `sample_weight`, or divide sums of "
        "`weight` for a share. Rows without a weight are good for training and say nothing about how often "
        "something happens. Keep training and judging apart: choose a model on `validation` (or by folds of "
        "`train`, grouped by `unit`), look at `test` once, and give an interval for the effective sample size, not "
        "for the number of rows."
    )
    shares = [
        (name, one["weights"]["rows"], f"{one['weights']['positive_share']:.4f}")
        for name, one in card["splits"].items()
        if one["weights"]["positive_share"] is not None
    ]
    if shares:
        yield from ("", "So weighted, this share of the predictions is positive:", "")
        yield from _table(("split", "labels", "positive"), shares)


def _inputs(card: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## Inputs", "")
    inputs = card["inputs"]
    if not inputs["written"]:
        yield "Captured requests were left out (`--no-inputs`)."
        return
    splits = card["splits"]
    names = list(next(iter(splits.values()))["inputs"])
    if not any(one["inputs"].get(name) for one in splits.values() for name in names) and inputs["unread"]:
        yield "Of what was captured nothing could be read."
    elif not names:
        yield "No request of these decisions was captured (`review.capture` in the settings)."
    else:
        yield (
            "`input.<name>` holds the values of one row in row-major order, `input_shape.<name>` their shape, "
            "`request` the call as JSON where a service is read by descriptors. They are there for so many rows:"
        )
        yield ""
        yield from _table(
            ("column", *splits),
            ((_code(name), *(one["inputs"].get(name, 0) for one in splits.values())) for name in names),
        )
    for reason, count in inputs["unread"].items():
        yield from ("", f"{count:,} rows: {_WHY[reason]}.")
    if inputs["redacted"]:
        yield from ("", "Taken out before anything was kept, or since:", "")
        yield from _table(
            ("route", "fields"),
            (
                (_code(route), ", ".join(_code(name) for name in names))
                for route, names in inputs["redacted"].items()
            ),
        )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(_code(str(cell)) if index else str(cell) for index, cell in enumerate(head))} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        cells = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row]
        yield f"| {' | '.join(cells)} |"


def _value(text: str) -> str:
    return _code(text) if text else "(none)"


def _code(text: str) -> str:
    """Text of callers, such that it stays in its cell and does nothing."""
    plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    for letter in "\\`*_<>[]|":
        plain = plain.replace(letter, f"&#{ord(letter)};")
    return plain


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
