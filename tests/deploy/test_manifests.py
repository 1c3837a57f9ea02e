"""The Kubernetes manifests, the scrape and the dashboard agree with one another and with the service."""

import json
import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from app.main import create_app
from app.metrics import Metrics
from app.settings import Settings
from tests.repository.project import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
MONITORING = ROOT / "deploy" / "monitoring"
MANIFESTS = sorted(KUBERNETES.rglob("*.yaml"))


@cache
def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def base(kind: str) -> Any:
    (found,) = (manifest for path in MANIFESTS if (manifest := parsed(path))["kind"] == kind and "base" in path.parts)
    return found


def container(deployment: Any) -> Any:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return only


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    folder = tmp_path_factory.mktemp("service")
    return TestClient(create_app(Settings(model_dir=[folder], collections_dir=folder / "collections")))


@pytest.mark.parametrize("folder", sorted({path.parent for path in MANIFESTS}), ids=lambda folder: folder.name)
def test_kustomize_finds_every_file_and_none_is_left_over(folder: Path) -> None:
    root = parsed(folder / "kustomization.yaml")
    named = [
        *root.get("resources", []),
        *root.get("components", []),
        *(item["path"] for item in root.get("patches", [])),
    ]
    assert {name for name in named if not (folder / name).exists()} == set()
    assert {path.name for path in folder.glob("*.yaml")} - {*named, "kustomization.yaml"} == set()


def test_every_object_has_a_name_and_a_version() -> None:
    objects = [parsed(path) for path in MANIFESTS if path.name != "kustomization.yaml"]
    assert {item["metadata"]["name"] for item in objects} == {"fusionrnn"}
    assert all(item["apiVersion"] for item in objects)


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_for_what_the_service_has(probe: str, service: TestClient) -> None:
    pod = container(base("Deployment"))
    asked = pod[probe]["httpGet"]
    assert asked["port"] in {port["name"] for port in pod["ports"]}
    assert service.get(asked["path"]).status_code in {200, 503}


def test_a_pod_lives_whatever_its_models_do_and_is_asked_only_when_they_are_ready() -> None:
    pod = container(base("Deployment"))
    assert pod["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert pod["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_draining_outlasts_the_readiness_probe_and_ends_before_the_pod_is_killed() -> None:
    literals = dict(
        line.split("=", 1)
        for line in parsed(KUBERNETES / "base/kustomization.yaml")["configMapGenerator"][0]["literals"]
    )
    drain, shutdown = float(literals["FUSIONRNN_DRAIN_SECONDS"]), float(literals["FUSIONRNN_SHUTDOWN_SECONDS"])
    deployment = base("Deployment")
    probe = container(deployment)["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < drain
    assert drain + shutdown < deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_every_variable_is_a_setting() -> None:
    literals = parsed(KUBERNETES / "base/kustomization.yaml")["configMapGenerator"][0]["literals"]
    names = [line.partition("=")[0] for line in literals]
    for patched in (base("Deployment"), parsed(KUBERNETES / "gpu/deployment.yaml")):
        names += [item["name"] for item in container(patched)["env"]]
    assert {name for name in names if name.removeprefix("FUSIONRNN_").lower() not in Settings.model_fields} == set()


def test_a_pod_starts_threads_for_the_cores_that_it_has() -> None:
    pod = container(base("Deployment"))
    asked = {item["name"]: item["valueFrom"]["resourceFieldRef"]["resource"] for item in pod["env"]}
    assert asked == {"FUSIONRNN_THREADS": "requests.cpu", "FUSIONRNN_DECODE_WORKERS": "requests.cpu"}
    # Without a request it would be 0, which for decoding is refused.
    assert int(pod["resources"]["requests"]["cpu"]) > 0


def test_keys_come_from_a_secret_that_may_be_missing() -> None:
    (secret,) = (source["secretRef"] for source in container(base("Deployment"))["envFrom"] if "secretRef" in source)
    assert secret["optional"] is True
    guide = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert f"kubectl create secret generic {secret['name']} " in guide


def test_the_disruption_budget_is_of_these_pods_alone() -> None:
    (label,) = parsed(KUBERNETES / "base/kustomization.yaml")["labels"]
    assert base("PodDisruptionBudget")["spec"]["selector"] == {"matchLabels": label["pairs"]}


def test_the_documented_proxy_lets_its_own_pages_open_sessions(service: TestClient) -> None:
    guide = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert "proxy_set_header Host $http_host;" in guide


def test_replicas_share_their_collections() -> None:
    literals = parsed(KUBERNETES / "base/kustomization.yaml")["configMapGenerator"][0]["literals"]
    assert base("HorizontalPodAutoscaler")["spec"]["minReplicas"] > 1
    assert [line for line in literals if line.startswith("FUSIONRNN_COLLECTIONS_URL=http")]


def test_no_service_link_is_taken_for_a_setting() -> None:
    # Kubernetes would set FUSIONRNN_PORT=tcp://... in every pod, after the service of this name.
    assert base("Deployment")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_references_lead_somewhere() -> None:
    deployment, pod = base("Deployment"), container(base("Deployment"))
    maps = {item["name"] for item in parsed(KUBERNETES / "base/kustomization.yaml")["configMapGenerator"]}
    assert {source["configMapRef"]["name"] for source in pod["envFrom"] if "configMapRef" in source} == maps
    volumes = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in pod["volumeMounts"]} == volumes
    (port,) = base("Service")["spec"]["ports"]
    assert port["targetPort"] in {item["name"] for item in pod["ports"]}
    scaled = base("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    assert "cpu" in pod["resources"]["requests"], "the autoscaler's share is of what a pod requests"


def test_the_pod_is_the_image_that_the_dockerfile_builds() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    pod = container(base("Deployment"))
    security = base("Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in dockerfile
    assert f"EXPOSE {pod['ports'][0]['containerPort']}" in dockerfile
    assert all(mount["mountPath"] in dockerfile for mount in pod["volumeMounts"])


def test_the_gpu_variant_changes_the_container_that_is_there() -> None:
    patch = container(parsed(KUBERNETES / "gpu/deployment.yaml"))
    assert patch["name"] == container(base("Deployment"))["name"]
    assert patch["resources"]["limits"]["nvidia.com/gpu"] == "1"


def metrics() -> set[str]:
    """Every series that the service can show, a sample of each kind."""
    shown = Metrics()
    shown.answered("captioner", 200, 0.1, {"inference": 50.0})
    shown.batch("captioner", 2, 10, 8)
    shown.refused.labels("steps").inc()
    shown.noticed("captioner", {"image": ["unfamiliar"]})
    shown.evicted.labels("left").inc()
    shown.stream_ended.labels("end").inc()
    shown.stream_refused.labels("unavailable").inc()
    shown.models.labels("loaded").set(1)
    return set(re.findall(r"^([a-z_]+)(?=[ {])", shown.text().decode(), flags=re.MULTILINE))


def expressions() -> list[str]:
    panels = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))["panels"]
    rules = chain.from_iterable(group["rules"] for group in parsed(MONITORING / "alerts.yaml")["groups"])
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules]


@pytest.mark.parametrize("expression", expressions())
def test_panels_and_alerts_use_what_the_service_counts(expression: str) -> None:
    used = set(re.findall(r"\b(?:fusionrnn|process)_[a-z_]+", expression))
    assert used <= metrics() or expression.startswith("up{")


def test_every_series_is_listed_in_the_guide_as_it_describes_itself() -> None:
    guide = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(fusionrnn_\w+)` \| (\w+) \| (.+) \|$", guide, re.MULTILINE))
    shown = [family for family in Metrics()._registry.collect() if family.name.startswith("fusionrnn")]
    names = {family.name: family.name + "_total" * (family.type == "counter") for family in shown}
    assert listed == {(names[family.name], family.type, family.documentation) for family in shown}


def test_the_autoscaler_by_steps_uses_what_the_service_counts() -> None:
    (metric,) = parsed(KUBERNETES / "steps/autoscaler.yaml")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in metrics()


def test_prometheus_scrapes_what_the_pods_announce(service: TestClient) -> None:
    annotations = base("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert service.get(annotations["prometheus.io/path"]).status_code == 200
    pod = container(base("Deployment"))
    assert int(annotations["prometheus.io/port"]) in {port["containerPort"] for port in pod["ports"]}
    (job,) = parsed(MONITORING / "prometheus.yaml")["scrape_configs"]
    (label,) = parsed(KUBERNETES / "base/kustomization.yaml")["labels"]
    (kept,) = (rule for rule in job["relabel_configs"] if rule.get("action") == "keep")
    assert kept["regex"] == label["pairs"]["app.kubernetes.io/name"]
    assert (MONITORING / parsed(MONITORING / "prometheus.yaml")["rule_files"][0]).is_file()


def test_no_two_panels_lie_on_one_another() -> None:
    panels = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
