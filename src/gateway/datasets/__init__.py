"""Data sets: labelled decisions as Parquet files, split without leakage, with a card that says how they came to be.

In: a ledger (one consistent state of it), a plan (which decisions, how they are split), the salt. Out: a folder with a
Parquet file per split, `README.md` and `card.json`. Never: holds more than some row groups in memory, leaves half a
folder behind, writes what the operator redacts, or names a person.

    plan        what is asked for: window, kinds, split
    splits      which split a row belongs to
    source      rows of the ledger, in order, in portions
    tensors     requests of the Open Inference Protocol, row by row
    payloads    captured requests as columns
    table       rows as Arrow tables
    tally       the counts of a card, as rows go by
    card        the card as data; `words` makes its text
    folder      a folder that appears whole or not at all
    writing     all of it in order

It stands above `services`, because captured messages are read for people in one way only (`services.readable`).
pyarrow is loaded when a data set is written, and only then.
"""

from gateway.datasets.payloads import Redaction
from gateway.datasets.plan import KINDS, Plan, Split, parse_split
from gateway.datasets.writing import export

__all__ = ["KINDS", "Plan", "Redaction", "Split", "export", "parse_split"]
