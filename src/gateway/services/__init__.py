"""The control plane's gRPC services, on the unix socket that the data plane hands `gateway.v1.*` to.

In: feedback from callers, reviewers' work. Out: labels in the ledger; what is answered OK is on disk. Never: touches a
call to a model, tells a caller the text of an unexpected error, or takes a receipt that was not verified.
"""

from gateway.ledger import RouteClasses
from gateway.services.control import Control
from gateway.services.feedback import FeedbackService
from gateway.services.intake import Intake, Statement
from gateway.services.intake import Rules as FeedbackRules
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
