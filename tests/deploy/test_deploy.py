"""What is deployed fits together and passes the tools of its trade, offline."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import config

with warnings.catch_warnings():
    # The validator's dependencies deprecate things among themselves.
    warnings.simplefilter("ignore")
    import kubernetes_validate
    from kubernetes_validate.utils import all_versions

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
BASE = ROOT / "deploy" / "kubernetes" / "base"
SETTINGS = BASE / "gateway.yaml"
FIRST_VERSION = (1, 33)
"""As the README says: native sidecars are stable from here on."""


def kustomization() -> dict[str, Any]:
    return dict(yaml.safe_load((BASE / "kustomization.yaml").read_text()))


def manifests() -> dict[str, dict[str, Any]]:
    """By kind, with the ConfigMap that kustomize would generate."""
    found = [yaml.safe_load((BASE / name).read_text()) for name in kustomization()["resources"]]
    for wanted in kustomization()["configMapGenerator"]:
        data = {name: (BASE / name).read_text() for name in wanted["files"]}
        found.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": wanted["name"]}, "data": data}
        )
    return {one["kind"]: one for one in found}


def pod() -> dict[str, Any]:
    return dict(manifests()["Deployment"]["spec"]["template"]["spec"])


def containers() -> Iterator[dict[str, Any]]:
    yield from pod()["initContainers"]
    yield from pod()["containers"]


def gateway_container() -> dict[str, Any]:
    (gateway,) = pod()["initContainers"]
    return dict(gateway)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continuation lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run(
        [program, "--no-color", str(path)], capture_output=True, text=True, timeout=60, check=False
    )


def test_hadolint_has_nothing_to_say_about_the_dockerfile(tmp_path: Path) -> None:
    """And does speak up where there is something, so that silence means something."""
    poor = tmp_path / "Dockerfile"
    poor.write_text("FROM python:latest\nRUN cd /tmp\n")
    assert "DL3007" in hadolint(poor).stdout
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_in_particular_and_without_a_shell() -> None:
    """Exec forms get signals, a numeric user can be checked by Kubernetes, base images go by their usual names."""
    found = instructions()
    last_stage = found[max(at for at, (word, _) in enumerate(found) if word == "FROM") :]
    settings = dict(last_stage)
    assert settings["USER"] == "65532:65532"
    for word in ("ENTRYPOINT", "CMD"):
        assert isinstance(yaml.safe_load(settings[word]), list)
    assert isinstance(yaml.safe_load(settings["HEALTHCHECK"].partition("CMD ")[2]), list)
    assert [text.split()[0] for word, text in found if word == "FROM"] == [
        "rust:1.88-slim-bookworm",
        "python:3.11-bookworm",
        "python:3.11-slim-bookworm",
        "python:3.11-slim-bookworm",
    ]
    copied = [text for word, text in last_stage if word in {"COPY", "ADD"}]
    assert copied == ["--from=install /opt/gateway /opt/gateway"]


def test_the_image_is_built_with_a_toolchain_that_the_project_supports() -> None:
    """The oldest supported versions, so that a wheel from the image says something about them."""
    crate = (ROOT / "src" / "dataplane" / "Cargo.toml").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'rust-version = "(.+)"', crate)[1] == "1.88"  # type: ignore[index]
    assert 'requires-python = ">=3.11"' in project


def test_what_the_build_copies_is_let_through_to_it() -> None:
    """A file that the ignore file holds back fails the build only where nobody tests it."""
    allowed = {
        line[1:]
        for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
        if line[:1] == "!"
    }
    copied = {
        name
        for word, text in instructions()
        if word == "COPY" and not text.startswith("--from")
        for name in text.split()[:-1]
    }
    assert copied == allowed
    assert [name for name in copied if not (ROOT / name).exists()] == []


SUPPORTED = [
    version for version in all_versions() if tuple(map(int, version.split(".")[:2])) >= FIRST_VERSION
]


@pytest.mark.parametrize("version", sorted({".".join(version.split(".")[:2]) for version in SUPPORTED}))
@pytest.mark.parametrize("kind", ["Deployment", "Service", "PersistentVolumeClaim", "ConfigMap"])
def test_manifests_are_valid_strictly(kind: str, version: str) -> None:
    """Unknown fields are errors: a misspelt probe is silently no probe."""
    kubernetes_validate.validate(manifests()[kind], version, strict=True)


def test_the_validator_refuses_a_misspelt_field() -> None:
    """So that the test above can fail."""
    wrong = manifests()["Deployment"]
    wrong["spec"]["template"]["spec"]["initContainers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, SUPPORTED[-1], strict=True)


def test_every_file_of_the_base_is_used_and_every_used_file_is_there() -> None:
    """A manifest that kustomize does not list is never applied."""
    used = {*kustomization()["resources"], "kustomization.yaml"}
    used |= {name for wanted in kustomization()["configMapGenerator"] for name in wanted["files"]}
    assert used == {path.name for path in BASE.iterdir()}
    named = {image["name"] for image in kustomization()["images"]}
    assert {container["image"] for container in containers()} == named


def test_the_settings_in_the_config_map_are_good() -> None:
    """The gateway would refuse to start with a faulty file."""
    settings = config.load(SETTINGS, env={})
    assert settings.routes["spam"].chain[0] == "spam-v3"
    assert settings.backends["ham"].static


def test_ports_and_folders_agree_between_settings_pod_and_service() -> None:
    """Four files name the same two ports and two folders."""
    settings, gateway = config.load(SETTINGS, env={}), gateway_container()
    inference, admin = settings.listen.inference, settings.listen.admin
    assert (inference, admin) == ("0.0.0.0:8080", "0.0.0.0:9090")
    assert {port["name"]: port["containerPort"] for port in gateway["ports"]} == {"grpc": 8080, "admin": 9090}
    (port,) = manifests()["Service"]["spec"]["ports"]
    assert port["targetPort"] == 8080
    mounts = {mount["mountPath"] for mount in gateway["volumeMounts"]}
    assert str(settings.state_dir.parent) in mounts
    assert Path(gateway["args"][1]).parent.as_posix() in mounts
    assert Path(gateway["args"][1]).name in manifests()["ConfigMap"]["data"]
    volumes = {volume["name"] for volume in pod()["volumes"]}
    assert {mount["name"] for container in containers() for mount in container["volumeMounts"]} == volumes
    assert ("EXPOSE", "8080 9090") in instructions()
    (claim,) = (
        v["persistentVolumeClaim"]["claimName"] for v in pod()["volumes"] if "persistentVolumeClaim" in v
    )
    assert claim == manifests()["PersistentVolumeClaim"]["metadata"]["name"]
    assert pod()["volumes"][0]["configMap"]["name"] == manifests()["ConfigMap"]["metadata"]["name"]


def test_the_service_and_the_deployment_choose_the_same_pods() -> None:
    """A selector that matches nothing is valid and useless."""
    labels = manifests()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests()["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests()["Service"]["spec"]["selector"] == labels


def test_the_gateway_is_a_native_sidecar_probed_on_its_admin_port() -> None:
    """Started by liveness (readiness may wait for the model, which waits for the sidecar), served by readiness."""
    gateway = gateway_container()
    assert gateway["restartPolicy"] == "Always"
    asked = {
        name: (gateway[name]["httpGet"]["path"], gateway[name]["httpGet"]["port"])
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert asked == {
        "startupProbe": ("/healthz", 9090),
        "readinessProbe": ("/readyz", 9090),
        "livenessProbe": ("/healthz", 9090),
    }
    (model,) = pod()["containers"]
    assert "readinessProbe" not in model, "the pod must get calls while the model is away"
    assert model["lifecycle"]["preStop"]["sleep"]["seconds"] < pod()["terminationGracePeriodSeconds"]


def test_containers_have_no_more_rights_than_they_need() -> None:
    """Restricted by the pod security standards, with a read-only root and bounded memory."""
    shared = pod()["securityContext"]
    assert shared["runAsNonRoot"] is True
    assert shared["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"{shared['runAsUser']}:{shared['runAsGroup']}" == dict(instructions())["USER"]
    assert pod()["automountServiceAccountToken"] is False
    for container in containers():
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
    for volume in pod()["volumes"]:
        assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


def test_a_second_pod_cannot_open_the_ledger() -> None:
    """SQLite on one volume: neither a second replica nor a rolling update may run beside the first."""
    spec = manifests()["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")
