"""The generated Kubernetes manifests: by Kubernetes' own schemas, and by what the service does."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from factfold_chassis.server import ALIVE
from factfold_chassis.settings import PREFIX, Settings
from factfold_cli.templates import languages

from .conftest import ROOT, factfold

KUBERNETES = ["1.30", "1.33", "1.37"]
SLUG = "{{cookiecutter.service_slug}}"
KUSTOMIZATION = "kustomization.yaml"


def manifests(folder: Path, slug: str) -> dict[str, dict[str, Any]]:
    """The name of each file and what it says."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        (found[path.name],) = yaml.safe_load_all(path.read_text().replace(SLUG, slug))
    return found


@pytest.fixture(params=languages())
def language(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def service(language: str) -> Path:
    """What a service of the language is rendered from."""
    return ROOT / "template" / language / SLUG


@pytest.fixture
def deploy(service: Path) -> dict[str, dict[str, Any]]:
    return manifests(service / "deploy", "orders")


@pytest.fixture
def pod(deploy: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = deploy["deployment.yaml"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    assert isinstance(container, dict)
    return container


# Words that YAML would read as something else are names of services, too.
@pytest.mark.parametrize("name", ["a", "z" * 60, "true", "null"])
def test_kubernetes_takes_it(tmp_path: Path, language: str, name: str) -> None:
    factfold(tmp_path, "new", name, "--language", language, "--no-input")
    service = tmp_path / name
    found = manifests(service / "deploy", name)
    kustomization = found.pop(KUSTOMIZATION)
    assert kustomization["kind"] == "Kustomization"
    assert sorted(kustomization["resources"]) == sorted(found)
    label = re.compile("[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
    for manifest in found.values():
        for version in KUBERNETES:
            assert kubernetes_validate.validate(manifest, version, strict=True) == version
        assert manifest["metadata"]["name"] == name
        assert label.fullmatch(name)
        assert manifest["metadata"]["labels"] == {"app.kubernetes.io/name": name}
    (image,) = kustomization["images"]
    (container,) = found["deployment.yaml"]["spec"]["template"]["spec"]["containers"]
    assert image["name"] == container["image"] == name
    assert isinstance(image["newTag"], str)
    assert name in yaml.safe_load((service / "compose.yaml").read_text())["services"]


def test_the_schemas_are_strict(deploy: dict[str, dict[str, Any]]) -> None:
    (container,) = deploy["deployment.yaml"]["spec"]["template"]["spec"]["containers"]
    container["livenessProb"] = container.pop("livenessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessProb"):
        kubernetes_validate.validate(deploy["deployment.yaml"], KUBERNETES[-1], strict=True)


def test_all_select_the_pods(deploy: dict[str, dict[str, Any]]) -> None:
    deployment, budget = deploy["deployment.yaml"], deploy["pod-disruption-budget.yaml"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert deploy["service.yaml"]["spec"]["selector"] == labels
    # A rollout and a node that is drained take one after the other, and there is another one.
    assert deployment["spec"]["replicas"] > budget["spec"]["maxUnavailable"] == 1


def test_a_pod_is_given_the_time_to_drain(
    pod: dict[str, Any], container: dict[str, Any], service: Path
) -> None:
    (drain,) = [item.default for item in fields(Settings) if item.name == "drain_timeout"]
    assert not [entry for entry in container["env"] if "DRAIN" in entry["name"]]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    # A process that hangs is ended a second after its drain; some are for the machine.
    assert pod["terminationGracePeriodSeconds"] >= before + drain + 1 + 5
    compose = yaml.safe_load((service / "compose.yaml").read_text().replace(SLUG, "orders"))
    assert float(compose["services"]["orders"]["stop_grace_period"].removesuffix("s")) > drain + 1


def test_probes_ask_what_the_service_answers(
    container: dict[str, Any], deploy: dict[str, dict[str, Any]], service: Path
) -> None:
    (port,) = container["ports"]
    dockerfile = (service / "Dockerfile").read_text()
    assert f"EXPOSE {port['containerPort']}\n" in dockerfile
    asked = {
        kind: container[f"{kind}Probe"]["grpc"] for kind in ("startup", "liveness", "readiness")
    }
    assert {kind: probe["port"] for kind, probe in asked.items()} == dict.fromkeys(
        asked, port["containerPort"]
    )
    # Whoever is not ready yet, or waits for its log, is not to be restarted.
    assert asked["startup"]["service"] == asked["liveness"]["service"] == ALIVE
    assert "service" not in asked["readiness"]
    (offered,) = deploy["service.yaml"]["spec"]["ports"]
    assert (offered["port"], offered["targetPort"]) == (port["containerPort"], port["name"])
    assert deploy["service.yaml"]["spec"]["clusterIP"] == "None"


def test_it_has_no_rights(pod: dict[str, Any], container: dict[str, Any], service: Path) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert f"\nUSER {user}\n" in (service / "Dockerfile").read_text()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_what_it_is_told_and_where_it_writes(
    pod: dict[str, Any], container: dict[str, Any], tmp_path: Path
) -> None:
    told = {entry["name"]: entry["value"] for entry in container["env"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    # The files of the cluster, here.
    secret, path = volumes["redis-url"]["secret"], told[f"{PREFIX}REDIS_URL_FILE"]
    (item,) = secret["items"]
    assert path == f"{mounts['redis-url']['mountPath']}/{item['path']}"
    assert mounts["redis-url"]["readOnly"]
    assert secret["secretName"] == "orders"
    assert secret["defaultMode"] == 0o440
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    (here := tmp_path / "redis-url").write_text("redis://user:secret@redis:6379/0\n")
    settings = Settings.from_environment(told | {f"{PREFIX}REDIS_URL_FILE": str(here)})
    assert settings.redis_url == "redis://user:secret@redis:6379/0"
    assert settings.snapshot_dir == mounts["snapshots"]["mountPath"]
    assert all("emptyDir" in volumes[name] for name in ("snapshots", "tmp"))
    assert mounts["tmp"]["mountPath"] == "/tmp"


def test_what_is_offered_in_comments_is_a_setting(service: Path) -> None:
    text = (service / "deploy/deployment.yaml").read_text()
    offered = dict(re.findall(r'# - name: (\w+)\n\s+#   value: "(.+)"', text))
    assert offered == {
        f"{PREFIX}EXPECT_LOG": "true",
        # Probes speak no TLS, and all of them have another port then.
        f"{PREFIX}HEALTH_LISTEN": "0.0.0.0:50052",
    }
    settings = Settings.from_environment(offered)
    assert (settings.expect_log, settings.health_listen) == (True, "0.0.0.0:50052")
    known = {item.name for item in fields(Settings)}
    for name in re.findall(rf"{PREFIX}\w+", text):
        word = name.removeprefix(PREFIX).lower()
        assert {word, word.removesuffix("_file")} & known
