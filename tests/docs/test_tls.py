"""What the page on TLS shows is what the gateway takes and says."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config import read_text
from gateway.telemetry.instruments import CATALOGUE

PAGE = (Path(__file__).parents[2] / "docs" / "tls.md").read_text()


def test_settings_of_the_page_are_good() -> None:
    """Without a warning: who copies them gets what the page says."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    loaded = read_text(text, env={})
    assert [str(fault) for fault in loaded.faults + loaded.warnings] == []
    assert loaded.settings is not None
    assert loaded.settings.listen.tls is not None


def test_metrics_of_the_page_exist() -> None:
    """A name in an alert must be one that is there."""
    assert "gateway_certificate_expiry_seconds" in PAGE
    assert CATALOGUE["gateway.certificate.expiry"].attributes == ("setting",)
