"""Who may do what, told by token, by certificate, or by where the call comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.config.access import Access as Named
from gateway.errors import Forbidden
from gateway.services.access import FAR, LOCAL, Access

TOKEN = {
    role: f"a token of the {role} of some length" for role in ("viewer", "reviewer", "operator", "sidecar")
}
NAMED = {f"the-{role}": Named(role=role, token=SecretStr(token)) for role, token in TOKEN.items()}  # type: ignore[arg-type]


class Call:
    """What of gRPC's context is looked at."""

    def __init__(
        self,
        token: str | None = None,
        peer: str = "ipv4:10.0.0.9:5000",
        metadata: Sequence[tuple[str, str]] = (),
        names: Sequence[str] = (),
    ) -> None:
        self._peer, self._names = peer, names
        self._metadata = [*metadata] + ([("authorization", f"Bearer {token}")] if token else [])

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self._metadata

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> Mapping[str, Any]:
        return {"x509_subject_alternative_name": [name.encode() for name in self._names]}


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("viewer", {"viewer"}),
        ("reviewer", {"viewer", "reviewer"}),
        ("operator", {"viewer", "reviewer", "operator"}),
        ("sidecar", {"sidecar"}),
    ],
)
def test_a_role_may_what_it_may_and_no_more(role: str, may: set[str]) -> None:
    """A reviewer's token must not stop a model, nor an operator's read the receipt keys."""
    access = Access(NAMED)
    for wanted in TOKEN:
        if wanted in may:
            assert access.demand(Call(TOKEN[role]), wanted) == f"the-{role}"
        else:
            with pytest.raises(Forbidden, match=f"the-{role} has the role {role}, wanted {wanted}"):
                access.demand(Call(TOKEN[role]), wanted)


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN["operator"][:-1], TOKEN["operator"] + "x"])
def test_without_the_token_nobody_may(token: str | None) -> None:
    """Also from this machine, once the settings name somebody."""
    for peer in ("ipv4:10.0.0.9:5000", "ipv4:127.0.0.1:5000", "unix:"):
        with pytest.raises(Forbidden, match="send `authorization: Bearer <token>`"):
            Access(NAMED).demand(Call(token, peer), "viewer")


@pytest.mark.parametrize(
    ("peer", "near"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv6:[::1]:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("unix:", True),
        ("ipv4:10.0.0.9:5000", False),
        ("ipv6:%5B2001:db8::1%5D:5000", False),
        ("ipv4:12.7.0.0:1", False),
    ],
)
def test_without_names_this_machine_may_and_no_other(peer: str, near: bool) -> None:
    """A laptop needs no tokens, a port that others reach does."""
    if near:
        assert Access({}).demand(Call(peer=peer), "operator") == LOCAL
        return
    with pytest.raises(Forbidden, match=r"write access: \{<name>: \{role: operator"):
        Access({}).demand(Call(peer=peer), "operator")


def test_what_a_sidecar_hands_on_is_not_from_this_machine() -> None:
    """The connection is the sidecar's; the caller may be anywhere."""
    with pytest.raises(Forbidden):
        Access({}).demand(Call(peer="ipv4:127.0.0.1:1", metadata=[(FAR, "sidecar")]), "viewer")


def test_a_unix_socket_behind_a_port_that_others_reach_is_not_from_this_machine() -> None:
    """The data plane hands the calls of its port on over one."""
    with pytest.raises(Forbidden):
        Access({}, near=False).demand(Call(peer="unix:"), "reviewer")


def test_a_certificate_names_its_holder() -> None:
    """A mesh needs no tokens."""
    access = Access(
        {
            "cars": Named(role="sidecar", tls="spiffe://acme/ns/models/*"),
            "anna": Named(role="operator", tls="spiffe://acme/people/anna"),
        }
    )
    assert access.demand(Call(names=["x", "spiffe://acme/ns/models/sa/a"]), "sidecar") == "cars"
    assert access.demand(Call(names=["spiffe://acme/people/anna"]), "viewer") == "anna"
    with pytest.raises(Forbidden):
        access.demand(Call(names=["spiffe://acme/people/annabel"]), "viewer")


def test_a_sidecar_does_not_lend_its_certificate() -> None:
    """What it hands on comes over its own connection; the caller needs a token."""
    access = Access(NAMED | {"cars": Named(role="operator", tls="spiffe://acme/ns/models/*")})
    handed_on = {"metadata": [(FAR, "sidecar")], "names": ["spiffe://acme/ns/models/sa/a"]}
    with pytest.raises(Forbidden, match="send `authorization: Bearer <token>`"):
        access.demand(Call(**handed_on), "viewer")  # type: ignore[arg-type]
    assert access.demand(Call(TOKEN["viewer"], **handed_on), "viewer") == "the-viewer"  # type: ignore[arg-type]


@pytest.mark.parametrize("broad_first", [True, False])
def test_of_patterns_that_overlap_the_one_that_may_most_counts(broad_first: bool) -> None:
    """Whatever their order in the settings."""
    named = [
        ("all", Named(role="viewer", tls="spiffe://acme/*")),
        ("anna", Named(role="operator", tls="spiffe://acme/people/anna")),
    ]
    access = Access(dict(named if broad_first else reversed(named)))
    assert access.demand(Call(names=["spiffe://acme/people/anna"]), "operator") == "anna"
    assert access.demand(Call(names=["spiffe://acme/people/ben"]), "viewer") == "all"
