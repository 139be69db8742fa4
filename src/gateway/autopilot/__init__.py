"""The loop: what was seen and learnt becomes the next policy.

In: batches of records, settings, labels so far. Out: shares for the next policy; what labels a budget will bring.
Never: touches a call; what it decides takes effect only as a published policy with a version.

    gates       labels that came -> pass, fail or inconclusive, by gate and segment
    looks       which predictions and labels a gate is judged by
    judging     what one gate says, from what is known
    slices      gates and their segments against the ledger's columns
    budget      a route's reviews an hour -> shares by stratum, kept over restarts
    counting    what a batch holds of routes that have one, as sums
    division    one division of a budget, by gateway.quality
    traffic     how many predictions come, of which kind, and what their reviews cost
    exploration shares of explored arms, by what was said about them
    arms        what is remembered of them, and told
    plan        how long until precision and recall are known to within so much
"""

from gateway.autopilot.budget import Load, ReviewBudget, Shares, Start

__all__ = ["Load", "ReviewBudget", "Shares", "Start"]
