"""What docs/any-service.md shows is what happens, and the example is whole."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from gateway.runtime.check import check
from tests.docs.test_readme import ROOT

PAGE = (ROOT / "docs" / "any-service.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FOLDER = ROOT / "examples" / "any_service"


def faults(folder: Path, text: str) -> list[str]:
    shutil.copy(FOLDER / "services.binpb", folder)
    (folder / "gateway.yaml").write_text(text)
    loaded = check(folder / "gateway.yaml", env={}, machine=False)
    return [str(fault).replace(f"{folder}/", "") for fault in loaded.faults]


@pytest.mark.parametrize("text", BLOCKS, ids=["scorer", "serving"])
def test_settings_of_the_page_are_good(text: str, tmp_path: Path) -> None:
    """The data plane's compiler finds every path in the descriptors."""
    assert faults(tmp_path, text) == []


def test_the_fault_of_the_page_is_what_is_said(tmp_path: Path) -> None:
    """The line that is shown comes out so."""
    [shown] = faults(tmp_path, BLOCKS[0].replace("predictions[].score", "predictions[].scoer"))
    assert f"```\n{shown}\n```" in PAGE


def test_the_example_is_good() -> None:
    """`tests/config` reads it; here its paths are tried as well."""
    loaded = check(ROOT / "examples" / "settings" / "any-service.yaml", env={}, machine=False)
    assert [str(fault) for fault in loaded.faults + loaded.warnings] == []


def test_the_descriptors_are_those_of_the_protos(tmp_path: Path) -> None:
    """Who edits a .proto of the example and forgets its set finds out here."""
    from grpc_tools import protoc

    made = tmp_path / "services.binpb"
    files = ["scorer.proto", "prediction_service.proto"]
    arguments = ["protoc", f"-I{FOLDER}", "--include_imports", f"--descriptor_set_out={made}", *files]
    assert protoc.main(arguments) == 0
    read = descriptor_pb2.FileDescriptorSet.FromString
    assert read(made.read_bytes()) == read((FOLDER / "services.binpb").read_bytes())
