"""The messages that the data plane's scanner is tested against are what protobuf encodes today."""

from tests.wire_format.protobuf_cases import CASES, document


def test_committed_cases_are_what_protobuf_encodes() -> None:
    """The Rust tests compare against these bytes; a stale file would prove nothing."""
    found = CASES.read_text(encoding="utf-8")
    assert found == document(), "mend: run `python tests/wire_format/protobuf_cases.py`"
