"""Who may change something: names with a role, each known by a token or by its certificate."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from gateway.config.fields import Block, Text, secret, wrong

__all__ = ["Access", "Role"]

Role = Literal["viewer", "reviewer", "operator", "sidecar"]


class Access(Block):
    """Somebody who may do something."""

    usual: ClassVar[str] = '{role: operator, token: "file:/run/keys/anna"}'

    role: Role = Field(
        description="viewer: looks at policies and quality; reviewer: reviews too; operator: publishes, rolls back and "
        "stops as well; sidecar: takes policies and brings records"
    )
    token: Annotated[SecretStr | None, BeforeValidator(secret)] = Field(
        None, description="16 characters or more, or file:<path>; sent as `authorization: Bearer <token>`"
    )
    tls: Text | None = Field(
        None,
        description="or the name in the certificate, spiffe://acme/ns/prod/sa/x; * at the end for all that follows",
    )

    @model_validator(mode="after")
    def _is_known_by_something(self) -> Access:
        if (self.token is None) == (self.tls is None):
            found = "neither token nor tls" if self.token is None else "both token and tls"
            raise wrong(found, "one of them: how is this one known?", "two names may have the same role")
        return self
