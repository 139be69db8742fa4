"""The fleet's manifests are valid, agree with their settings, and ask for no more than they need."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

from gateway.cli.sidecar import _parser
from gateway.config import read_text
from gateway.config.fleet import fleet_faults

FLEET = Path(__file__).parents[2] / "deploy" / "kubernetes" / "fleet"
FILES = ("control.yaml", "control-service.yaml", "model.yaml")


def manifest(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FLEET / name).read_text()))


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for name in ("control.yaml", "model.yaml"):
        pod = manifest(name)["spec"]["template"]["spec"]
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield pod, container


@pytest.mark.parametrize("version", ["1.33"])
@pytest.mark.parametrize("name", FILES)
def test_manifests_are_valid_strictly(name: str, version: str) -> None:
    """Unknown fields are errors: a misspelt probe is silently no probe."""
    kubernetes_validate.validate(manifest(name), version, strict=True)


def test_every_file_is_used() -> None:
    """A manifest that kustomize does not list is never applied."""
    kustomization = manifest("kustomization.yaml")
    assert tuple(kustomization["resources"]) == FILES
    assert {path.name for path in FLEET.iterdir()} == {*FILES, "kustomization.yaml", "gateway.yaml"}


def test_the_settings_are_those_of_a_fleet(tmp_path: Path) -> None:
    """`gateway control` would take them, once the keys are there."""
    text = (FLEET / "gateway.yaml").read_text().replace("file:/etc/keys", f"file:{tmp_path}")
    for name in ("salt", "receipt", "sidecar", "operator"):
        (tmp_path / name).write_text(f"a {name} of some length")
    loaded = read_text(text, env={})
    assert [str(fault) for fault in loaded.faults + fleet_faults(loaded, text)] == []
    assert loaded.settings is not None
    mounts = {
        mount["mountPath"] for _, container in containers() for mount in container.get("volumeMounts", ())
    }
    assert {"/etc/keys", "/etc/tls", "/etc/gateway", "/var/lib/gateway"} <= mounts
    port = manifest("control-service.yaml")["spec"]["ports"][0]["targetPort"]
    assert str(loaded.settings.listen.control).endswith(f":{port}")


def test_the_sidecar_is_started_as_it_can_be() -> None:
    """Its arguments are read, and point at the service and at what is mounted."""
    (gateway,) = manifest("model.yaml")["spec"]["template"]["spec"]["initContainers"]
    assert gateway["restartPolicy"] == "Always"
    said = _parser().parse_args(gateway["args"][1:])
    assert said.control == [f"{manifest('control-service.yaml')['metadata']['name']}:8081"]
    mounts = [mount["mountPath"] for mount in gateway["volumeMounts"]]
    for path in (said.token_file, said.ca, said.state_dir):
        assert any(path.is_relative_to(mount) for mount in mounts), path
    pod = manifest("model.yaml")["spec"]["template"]["spec"]
    (state,) = (volume for volume in pod["volumes"] if volume["name"] == "state")
    assert int(state["emptyDir"]["sizeLimit"].removesuffix("Mi")) > said.spool_mb


def test_containers_have_no_more_rights_than_they_need() -> None:
    """Restricted by the pod security standards, with a read-only root and bounded memory."""
    found = list(containers())
    assert len(found) == 3
    for pod, container in found:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        for volume in pod["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]
