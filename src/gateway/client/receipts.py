"""Where an answer's receipt stands: in a call's trailers, or in the parameters of an inference response."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.errors import ReceiptError

__all__ = ["RECEIPT_PARAMETER", "RECEIPT_TRAILER", "receipt_of"]

RECEIPT_TRAILER: Final = "gateway-receipt"
RECEIPT_PARAMETER: Final = "gateway_receipt"


def receipt_of(answer: Any) -> str:
    """The receipt of an answer, to be kept until the truth is known.

    Args:
        answer: a gRPC call (`with_call`'s second value, a future, a stream that has ended); its trailing metadata, as
            for grpc.aio, whose calls must be awaited: `receipt_of(await call.trailing_metadata())`; tritonclient's
            `InferResult`; or a `ModelInferResponse`.
    Raises: ReceiptError, its kind `absent`, where there is none: the call did not go through a gateway, matched no
        route, or, of a stream, has not ended.
    """
    for where in (_parameters, _metadata):
        found = where(answer)
        if found:
            return found
    raise ReceiptError(
        "absent",
        f"no receipt in this {type(answer).__name__}: wanted an answer that a route of the gateway gave, with the "
        f"trailer {RECEIPT_TRAILER} or the parameter {RECEIPT_PARAMETER}",
    )


def _parameters(answer: Any) -> str | None:
    """Of an inference response, or of tritonclient's result around one."""
    respond = getattr(answer, "get_response", None)
    response = respond() if callable(respond) else answer
    parameters = getattr(response, "parameters", None)
    if not hasattr(parameters, "get") or RECEIPT_PARAMETER not in (parameters or ()):
        return None
    value = parameters[RECEIPT_PARAMETER]  # type: ignore[index]
    return str(getattr(value, "string_param", value))


def _metadata(answer: Any) -> str | None:
    """Of a call's trailers, or of metadata: pairs, or a mapping."""
    trailing = getattr(answer, "trailing_metadata", None)
    pairs = trailing() if callable(trailing) else answer
    if inspect.isawaitable(pairs):
        if inspect.iscoroutine(pairs):
            pairs.close()
        raise TypeError("a call of grpc.aio: give its metadata, receipt_of(await call.trailing_metadata())")
    if isinstance(pairs, Mapping):
        pairs = list(pairs.items())
    if not isinstance(pairs, Iterable) or isinstance(pairs, (str, bytes)):
        return None
    for pair in pairs:
        if isinstance(pair, (tuple, list)) and len(pair) == 2 and pair[0] == RECEIPT_TRAILER:
            return str(pair[1])
    return None
