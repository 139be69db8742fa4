"""Retries, circuits, warm connections and names in the settings: on unless turned off, and what is refused."""

from __future__ import annotations

import pytest

from gateway.config import Settings, read_text

ROUTES = "routes: {spam: {chain: [m]}}"


def loaded(backend: str, more: str = "") -> Settings:
    made = read_text(f"backends: {{m: {{{backend}}}}}\n{ROUTES}\n{more}", env={})
    assert made.settings is not None, made.faults
    return made.settings


def faults(backend: str, more: str = "") -> str:
    made = read_text(f"backends: {{m: {{{backend}}}}}\n{ROUTES}\n{more}", env={})
    return "\n".join(str(fault) for fault in made.faults)


def test_all_of_it_is_on_without_being_asked_for() -> None:
    backend = loaded('grpc: "127.0.0.1:1"').backends["m"]
    assert backend.retry is not None
    assert backend.circuit is not None
    assert (backend.retry.attempts, backend.circuit.failures, backend.warm) == (2, 7, 1)


def test_null_turns_it_off() -> None:
    backend = loaded('grpc: "127.0.0.1:1", retry: null, circuit: null, warm: 0').backends["m"]
    assert (backend.retry, backend.circuit, backend.warm) == (None, None, 0)


@pytest.mark.parametrize(
    ("backend", "more", "words"),
    [
        ('grpc: "127.0.0.1:1", retry: {methods: [acme.Scoring/Score]}', "", "write /acme.Scoring/Score"),
        (
            'grpc: "127.0.0.1:1", circuit: {probe_first_s: 5, probe_last_s: 1}',
            "",
            "at least probe_first_s, 5",
        ),
        ('grpc: "127.0.0.1:1", warm: 9', "", "warm"),
        ("answer: {label: ham}, retry: {attempts: 1}", "", "retry beside answer"),
        ('grpc: "dns:a:1"', "dns: {servers: [10.0.0.10]}", "write 10.0.0.10:53"),
        ('grpc: "dns:a:1"', 'dns: {servers: ["2001:db8::1"]}', "write [2001:db8::1]:53"),
        ('grpc: "dns:a:1"', "dns: {servers: [dns.example:53]}", "no address of a name server"),
        ('grpc: "dns:a:1"', "dns: {min_ttl_s: 90}", "at least min_ttl_s, 90"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_mend(backend: str, more: str, words: str) -> None:
    assert words in faults(backend, more)


def test_name_servers_that_nobody_asks_are_warned_of() -> None:
    text = f'backends: {{m: {{grpc: "127.0.0.1:1"}}}}\n{ROUTES}\ndns: {{servers: ["10.0.0.10:53"]}}'
    warnings = [str(fault) for fault in read_text(text, env={}).warnings]
    assert any("nobody asks these servers" in warning for warning in warnings)
    asked = text.replace('"127.0.0.1:1"', '"dns:a:1"')
    assert not any("nobody asks" in str(fault) for fault in read_text(asked, env={}).warnings)
