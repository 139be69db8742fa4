"""The loop: what was seen and learnt becomes the next policy.

In: batches of records, settings. Out: shares for the next policy.
Never: touches a call; what it decides takes effect only as a published policy with a version.
"""

from gateway.autopilot.budget import ReviewBudget, Shares

__all__ = ["ReviewBudget", "Shares"]
