"""The Kubernetes manifests as text, without a cluster: what they say of the service holds."""

from typing import Any

import pytest
import yaml
from docker_support import ROOT
from typer.testing import CliRunner

FOLDER = ROOT / "docker" / "kuberay"


def manifests(name: str) -> dict[str, dict[str, Any]]:
    """The documents of a file by their kind; the last of a kind counts."""
    return {one["kind"]: one for one in yaml.safe_load_all((FOLDER / name).read_text())}


@pytest.fixture
def service() -> dict[str, Any]:
    """The service's container."""
    (found,) = manifests("service.yaml")["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_the_service_is_started_as_it_can_be(service: dict[str, Any]) -> None:
    from service.cli.main import app

    command, *words = service["args"]
    assert command == "kd-sweep"
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0


def test_probes_ask_what_the_service_answers_at_its_port(service: dict[str, Any]) -> None:
    from service.web.serving import Settings

    (port,) = service["ports"]
    assert port["containerPort"] == Settings().port
    probes = {name: service[name]["httpGet"] for name in service if name.endswith("Probe")}
    assert {name: one["path"] for name, one in probes.items()} == {
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
        "startupProbe": "/healthz",
    }
    assert {one["port"] for one in probes.values()} == {port["name"]}
    (outside,) = manifests("service.yaml")["Service"]["spec"]["ports"]
    assert (outside["port"], outside["targetPort"]) == (port["containerPort"], port["name"])


def test_the_service_asks_the_cluster_and_shares_no_home_with_it(service: dict[str, Any]) -> None:
    cluster = manifests("raycluster.yaml")["RayCluster"]
    known = {one["name"]: one.get("value") for one in service["env"]}
    head = f"http://{cluster['metadata']['name']}-head-svc:8265"
    assert known["KD_SWEEP_ADDRESS"] == head
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    claims = {
        name: {one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"]}
        for name, spec in {
            "service": manifests("service.yaml")["Deployment"]["spec"]["template"]["spec"],
            **{str(at): one["template"]["spec"] for at, one in enumerate(groups)},
        }.items()
    }
    mine = claims.pop("service")
    assert all(mine & others == {"kd-sweep-data"} for others in claims.values())
