"""The control plane's gRPC services, on the unix socket that the data plane hands `gateway.v1.*` to.

In: feedback from callers, reviewers' work. Out: labels in the ledger; what is answered OK is on disk. Never: touches a
call to a model, tells a caller the text of an unexpected error, or takes a receipt that was not verified.

Names are loaded when they are asked for: a sidecar has an admin port, and no ledger.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.ledger import RouteClasses
    from gateway.services.control import Control
    from gateway.services.feedback import FeedbackService
    from gateway.services.intake import FeedbackRules, Intake, Statement
    from gateway.services.people import People
    from gateway.services.rates import Rate
    from gateway.services.readable import Messages
    from gateway.services.review import ReviewService

__all__ = [
    "Control",
    "FeedbackRules",
    "FeedbackService",
    "Intake",
    "Messages",
    "People",
    "Rate",
    "ReviewService",
    "RouteClasses",
    "Statement",
]

HOMES: Final = {
    "Control": "gateway.services.control",
    "FeedbackService": "gateway.services.feedback",
    "FeedbackRules": "gateway.services.intake",
    "Intake": "gateway.services.intake",
    "Messages": "gateway.services.readable",
    "People": "gateway.services.people",
    "Rate": "gateway.services.rates",
    "ReviewService": "gateway.services.review",
    "RouteClasses": "gateway.ledger",
    "Statement": "gateway.services.intake",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)
