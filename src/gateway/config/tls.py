"""TLS: the files it is made of, who may call, and what of it contradicts the rest.

Paths are absolute after loading; what the files hold is looked at by `gateway.runtime.certificates`, as they change
while a gateway runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.config.faults import Fault, Path, quoted
from gateway.config.fields import Block, Text, as_list, wrong
from gateway.config.source import Source

if TYPE_CHECKING:
    from gateway.config.origins import From
    from gateway.config.settings import Settings

__all__ = ["BackendTls", "EncryptedBackend", "ListenTls", "check_tls", "make_absolute", "warnings_of_tls"]

LISTEN_FILES = ("cert", "key", "client_ca")
BACKEND_FILES = ("ca", "cert", "key")

Report = Callable[..., None]


def _file(value: str) -> str:
    wanted = "the path of a PEM file"
    if "-----BEGIN" in value:
        raise wrong("the text of a certificate or key", wanted, "write it to a file, which may change later")
    if value.startswith("file:"):
        raise wrong(quoted(value), wanted, f"write {value.removeprefix('file:')}")
    if not value.strip():
        raise wrong("an empty path", wanted)
    return value


PemFile = Annotated[Text, AfterValidator(_file)]


def _pattern(value: str) -> str:
    wanted = "a name such as spiffe://acme/ns/prod/sa/web, or a pattern such as spiffe://acme/ns/prod/*"
    if not value.strip():
        raise wrong("an empty name", wanted)
    if any(part.count("*") > 1 for part in value.split("/")):
        raise wrong(
            f"{quoted(value)} has more than one * in a part", wanted, "* at the end takes all that follows"
        )
    return value


Pattern = Annotated[Text, AfterValidator(_pattern)]

_HOST = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?\Z"
)
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\Z")


def _server_name(value: str) -> str:
    if not _HOST.match(value) and not _ADDRESS.match(value):
        mend = "without scheme and port" if "/" in value or ":" in value else ""
        raise wrong(f"{quoted(value)} is no name of a server", "a DNS name or an IP address", mend)
    return value


class ListenTls(Block):
    """TLS on the inference port; the files may be replaced while the gateway runs."""

    usual: ClassVar[str] = "{cert: tls.crt, key: tls.key, client_ca: ca.crt}"

    cert: PemFile = Field(description="PEM: the gateway's certificate, then those that lead to its root")
    key: PemFile = Field(description="PEM: its private key, without a password")
    client_ca: PemFile | None = Field(
        None, description="PEM: who signs callers' certificates; callers need one then"
    )
    allow: Annotated[
        tuple[Pattern, ...], BeforeValidator(as_list, json_schema_input_type=str | tuple[str, ...])
    ] = Field(
        (),
        max_length=4096,
        description="names that may call, * for a part or at the end for all that follows; everybody if absent",
    )

    @model_validator(mode="after")
    def _allow_wants_names(self) -> ListenTls:
        if self.allow and self.client_ca is None:
            raise wrong(
                "allow without client_ca: no caller has a name",
                "client_ca beside it: who signs the callers' certificates",
                at=("allow",),
            )
        return self


class BackendTls(Block):
    """TLS to a backend; `true` trusts whom this machine trusts."""

    usual: ClassVar[str] = "true, or {ca: ca.crt, cert: tls.crt, key: tls.key, server_name: spam.acme}"

    ca: PemFile | None = Field(
        None, description="PEM: who may have signed the server's certificate; the system's if absent"
    )
    cert: PemFile | None = Field(
        None, description="PEM: the gateway's certificate, where the server wants one"
    )
    key: PemFile | None = Field(None, description="PEM: its private key, without a password")
    server_name: Annotated[Text, AfterValidator(_server_name)] | None = Field(
        None, description="name in the server's certificate; the endpoint's host if absent"
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> BackendTls:
        if (self.cert is None) != (self.key is None):
            there, absent = ("cert", "key") if self.key is None else ("key", "cert")
            raise wrong(f"{there} without {absent}", f"{absent} beside it", at=(there,))
        return self


def _switch(value: Any) -> Any:
    if value is False:
        return None
    return {} if value is True else value


EncryptedBackend = Annotated[
    BackendTls | None, BeforeValidator(_switch, json_schema_input_type=bool | BackendTls | None)
]


def make_absolute(source: Source, folder: FilePath) -> None:
    """A relative path starts at the file's folder."""
    blocks = [(source.block("listen", name), LISTEN_FILES) for name in ("tls", "control_tls")]
    blocks += [(source.block("backends", name, "tls"), BACKEND_FILES) for name in source.block("backends")]
    for block, names in blocks:
        for name in names:
            value = block.get(name)
            if isinstance(value, str) and value.strip() and not value.startswith(("file:", "-----BEGIN")):
                block[name] = str(folder / FilePath(value).expanduser())


def check_tls(settings: Settings, source: Source, report: Report) -> None:
    """What contradicts: TLS where there is nothing to encrypt, and a caller's name that nobody has."""
    tls = settings.listen.tls
    if tls is not None and settings.listen.inference.startswith("unix:"):
        report(
            ("listen", "tls"),
            "inference listens on a unix socket, which nothing outside this machine reaches",
            "HOST:PORT in inference, or no tls",
        )
    for name, backend in settings.backends.items():
        sockets = [one for one in backend.grpc or () if one.startswith("unix:")]
        if backend.tls is not None and sockets:
            report(
                ("backends", name, "tls"),
                f"{sockets[0]} is a unix socket, which is not encrypted",
                "HOST:PORT in grpc, or no tls",
            )
    faulty = tls is None and source.block("listen", "tls")
    if faulty or (tls is not None and tls.client_ca is not None):
        return
    sources: dict[Path, From | None] = {("identity", "unit"): settings.identity.unit}
    sources |= {("identity", "segments", name): one for name, one in settings.identity.segments.items()}
    for path, one in sources.items():
        if one is not None and one.kind == "caller":
            report(
                path,
                f"{one} without listen.tls.client_ca: no caller has a name",
                "listen: {tls: {cert: .., key: .., client_ca: ..}}",
            )


_LOOPBACK = re.compile(r"(127\.|localhost:|\[::1\]|unix:)")
_CALLER = re.compile(r"(?<![\w.\"'])caller\s*[.\[]")


def warnings_of_tls(settings: Settings, source: Source) -> Iterator[Fault]:
    """What is allowed and probably not meant."""
    tls, admin = settings.listen.tls, settings.listen.admin
    if tls is not None and admin is not None and not _LOOPBACK.match(admin):
        yield source.fault(
            source.existing(("listen", "admin")),
            f"the admin port on {admin} is not encrypted and asks nobody who they are",
            mend="bind it to 127.0.0.1, or let nothing but probes and scrapers reach it",
        )
    for index, pattern in enumerate(tls.allow if tls is not None else ()):
        if re.match(r"\w+://[^/]*\*", pattern):
            yield source.fault(
                ("listen", "tls", "allow", index),
                f"{pattern} takes names of trust domains that others may choose",
                mend="write the domain out, as in spiffe://acme/*",
            )
    if tls is None or tls.client_ca is None:
        for name, route in settings.routes.items():
            for index, rule in enumerate(route.rules):
                if _CALLER.search(rule.when):
                    yield source.fault(
                        ("routes", name, "rules", index, "when"),
                        "without listen.tls.client_ca no caller has a name",
                        mend="give listen.tls a client_ca",
                    )
