"""Tools that people already have, as further ways in and out of the ledger.

In: review tasks, settings. Out: the same tasks as the tool has them, and its answers as labels in the ledger. Never:
touches a call, trusts what a tool pushes before it has read it there itself, or sends a probability, a score or
another's answer.
"""

from gateway.connectors import label_studio

__all__ = ["label_studio"]
