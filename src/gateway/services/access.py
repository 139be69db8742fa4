"""Who may do what: a name and a role, by a bearer token or by the name in a certificate.

Without any name in the settings whoever calls from this machine may do everything, as on a laptop; from elsewhere
nobody may, and is told what to write. Tokens are compared by their sums, all of them, in constant time: how far a guess
was right must not show in how long it takes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc

from gateway.config.access import Access as Named
from gateway.errors import Forbidden

__all__ = ["FAR", "LOCAL", "Access", "RoleInterceptor"]

FAR: Final = "gateway-from"
"""Set by a sidecar on what it hands on: the caller is not at this machine, whatever the connection says."""

LOCAL: Final = "local"
"""The name of whoever calls from this machine where the settings name nobody."""

_MAY: Final[Mapping[str, tuple[str, ...]]] = {
    "viewer": ("viewer",),
    "reviewer": ("viewer", "reviewer"),
    "operator": ("viewer", "reviewer", "operator"),
    "sidecar": ("sidecar",),
}
"""What each role may."""


_BY_METHOD: Final[Mapping[str, str]] = {
    "/gateway.v1.ReviewService/Stats": "viewer",
    "/gateway.v1.ReviewService/": "reviewer",
}
"""Roles by the beginning of a method's path, the first counts. Feedback wants none: a signed receipt is its right, and
what comes by decision id is bounded by caller."""


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    role: str
    token: bytes | None
    tls: str | None


class Access:
    """Thread-safe.

    Args:
        named: by name, as in the settings.
        near: whether what comes over a unix socket comes from this machine; a data plane that listens for others hands
            their calls on over one.
    """

    def __init__(self, named: Mapping[str, Named], *, near: bool = True) -> None:
        self._near = near
        self._known = [
            _Known(
                name,
                one.role,
                None if one.token is None else _sum(one.token.get_secret_value()),
                one.tls,
            )
            for name, one in named.items()
        ]

    def demand(self, context: Any, role: str) -> str:
        """The caller's name, if its role may.

        Raises: Forbidden.
        """
        if not self._known:
            if self._is_near(context):
                return LOCAL
            raise Forbidden(
                f"this wants the role {role}, and the settings name nobody: from another machine nobody may; "
                f'write access: {{<name>: {{role: {role}, token: "file:<path>"}}}}'
            )
        found = self._named(context)
        if found is None:
            raise Forbidden(
                f"this wants the role {role}: send `authorization: Bearer <token>` of a name in `access`, "
                "or a certificate with its name"
            )
        if role not in _MAY[found.role]:
            raise Forbidden(f"{found.name} has the role {found.role}, wanted {role}")
        return found.name

    def _named(self, context: Any) -> _Known | None:
        found = None
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str) and value[:7].lower() == "bearer ":
                total = _sum(value[7:].strip())
                for one in self._known:
                    if one.token is not None and hmac.compare_digest(one.token, total):
                        found = one
        # What was handed on came over the sidecar's connection, by the sidecar's certificate.
        return found or (None if _handed_on(context) else self._certified(context))

    def _certified(self, context: Any) -> _Known | None:
        """Of all whose pattern fits, who may most: a broad pattern must not hide a name of its own."""
        identities = context.auth_context()
        names = [
            name.decode("utf-8", "replace")
            for key in ("x509_subject_alternative_name", "x509_common_name")
            for name in identities.get(key, ())
        ]
        fitting = [
            one
            for one in self._known
            if one.tls is not None and any(_matches(one.tls, name) for name in names)
        ]
        return max(fitting, key=lambda one: len(_MAY[one.role]), default=None)

    def _is_near(self, context: Any) -> bool:
        if _handed_on(context):
            return False
        peer = str(context.peer())
        if peer.startswith("unix:"):
            return self._near
        return peer.startswith(("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D"))


class RoleInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Demands the role of services that know no roles themselves; stands inside of `ErrorInterceptor`."""

    def __init__(self, access: Callable[[], Access]) -> None:
        self._access = access

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        role = next((role for start, role in _BY_METHOD.items() if method.startswith(start)), None)
        if role is None or handler is None or handler.unary_unary is None:
            return handler
        behave = handler.unary_unary

        async def call(request: Any, context: Any) -> Any:
            self._access().demand(context, role)
            return await behave(request, context)

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _handed_on(context: Any) -> bool:
    return any(key == FAR for key, _ in context.invocation_metadata() or ())


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _sum(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
