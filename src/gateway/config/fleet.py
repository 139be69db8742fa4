"""What a fleet adds to the checks of settings: where its parts meet, and what replicas must share."""

from __future__ import annotations

from collections.abc import Iterator

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gateway.config.expand import expand
from gateway.config.faults import Fault
from gateway.config.foreign import is_secret
from gateway.config.ledger_url import has_password
from gateway.config.listening import is_loopback
from gateway.config.load import Loaded
from gateway.config.source import scalars

__all__ = ["fleet_faults"]


def fleet_faults(loaded: Loaded, text: str) -> list[Fault]:
    """What `gateway control` cannot take, of settings that are good otherwise; `text` is what they were read from."""
    settings = loaded.settings
    if settings is None:
        return []
    found = [*_literal_secrets(loaded, text)]
    address = settings.listen.control
    if address is None:
        found.append(
            loaded.fault(
                ("listen",),
                "there is no control",
                "where sidecars call",
                'control: "0.0.0.0:8081" beside inference',
            )
        )
    elif not is_loopback(address):
        if settings.listen.control_tls is None:
            found.append(
                loaded.fault(
                    ("listen", "control"),
                    "plain text on an address that other machines reach: a policy holds the salt and the receipt keys",
                    "control_tls beside it",
                    "or a loopback address behind a proxy that encrypts",
                )
            )
        if not any(one.role == "sidecar" for one in settings.access.values()):
            found.append(
                loaded.fault(
                    ("listen", "control"),
                    "nobody in `access` has the role sidecar, and from other machines nobody else may",
                    mend='access: {sidecars: {role: sidecar, token: "file:<path>"}}',
                )
            )
    if not settings.ledger.startswith("sqlite"):
        for name, given in (("salt", settings.secrets.salt), ("receipt_keys", settings.secrets.receipt_keys)):
            if not given:
                found.append(
                    loaded.fault(
                        ("secrets",),
                        f"there is no {name}, and every replica would make its own",
                        f"{name}: file:<path>, the same for all",
                    )
                )
    return found


def _literal_secrets(loaded: Loaded, text: str) -> Iterator[Fault]:
    """The settings are kept in the ledger, which may be read by people who must not forge receipts."""
    try:
        raw = YAML(typ="safe").load(text)
    except YAMLError:
        return
    for path, value in scalars(raw, ()):
        literal, _ = expand(value, {})  # what is left without an environment: what stands here itself
        if is_secret(path) and literal and not literal.startswith("file:"):
            yield loaded.fault(
                path,
                "a secret in the settings themselves, which the ledger keeps",
                "file:<path> or ${NAME}",
            )
        elif path in (("ledger",), ("telemetry", "otlp")) and has_password(literal):
            yield loaded.fault(
                path,
                "a password in the settings themselves, which the ledger keeps",
                "${NAME} in its place"
                if path != ("ledger",)
                else "${NAME} in its place, PGPASSWORD or PGPASSFILE",
            )
