"""docker-compose.yml keeps its promises. No engine is needed: these read it as the Compose specification does."""

import re
from typing import Any

import pytest
import yaml

from app.cli.configuring import every_setting
from tests.repository.project import ROOT

# The keys of the Compose specification that this file may use: a misspelt one would be refused by the engine.
KEYS = {
    "build", "cap_drop", "deploy", "environment", "healthcheck", "image", "ports", "profiles", "read_only", "restart",
    "security_opt", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period"}


def interpolated(text: str) -> str:
    """``text`` with each ``${NAME:-default}`` as it is where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


COMPOSE: dict[str, Any] = yaml.safe_load(interpolated((ROOT / "docker-compose.yml").read_text()))
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.fixture(params=sorted(SERVICES))
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = SERVICES[request.param]
    return found


def test_one_service_for_each_device() -> None:
    assert {name: service["build"]["args"]["DEVICE"] for name, service in SERVICES.items()} == {
        "fusionrnn": "cpu",
        "fusionrnn-cuda": "cuda",
    }
    assert SERVICES["fusionrnn"]["image"] != SERVICES["fusionrnn-cuda"]["image"]


def test_only_known_keys(service: dict[str, Any]) -> None:
    assert service.keys() <= KEYS
    assert service["healthcheck"].keys() <= HEALTHCHECK_KEYS


def test_build_arguments_exist(service: dict[str, Any]) -> None:
    known = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    assert service["build"]["args"].keys() <= known


def test_the_network_does_not_see_it_unasked(service: dict[str, Any]) -> None:
    (port,) = service["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+:8000", port)


def test_both_can_run_at_once() -> None:
    assert len({service["ports"][0] for service in SERVICES.values()}) == len(SERVICES)


def test_the_users_checkpoints_are_mounted_where_the_image_looks(service: dict[str, Any]) -> None:
    assert service["volumes"][0] == "./checkpoints:/checkpoints:ro"
    (folders,) = re.findall(r"FUSIONRNN_MODEL_DIR=(\S+)", (ROOT / "Dockerfile").read_text())
    assert folders.split(":") == ["/opt/fusionrnn/zoo", "/checkpoints"]


def test_each_has_a_store_of_its_own_where_the_image_keeps_collections() -> None:
    image = (ROOT / "Dockerfile").read_text()
    (place,) = re.findall(r"FUSIONRNN_COLLECTIONS_DIR=(\S+)", image)
    assert re.search(rf"install --directory --owner fusionrnn .* {place}$", image, flags=re.MULTILINE)
    stores = [mount.split(":") for service in SERVICES.values() for mount in service["volumes"][1:]]
    assert [where for _, where in stores] == [place] * len(SERVICES)
    assert {name for name, _ in stores} == COMPOSE["volumes"].keys()
    assert len(COMPOSE["volumes"]) == len(SERVICES)


def test_what_is_set_outside_is_passed_on_but_for_what_the_image_sets(service: dict[str, Any]) -> None:
    image = set(re.findall(r"\b(FUSIONRNN_\w+)=", (ROOT / "Dockerfile").read_text()))
    traces = set(re.findall(r"`(OTEL_\w+)`", (ROOT / "docs" / "deploy.md").read_text()))
    assert set(service["environment"]) - traces == {setting.name for setting in every_setting()} - image


def test_nothing_else_can_be_written_but_tmp(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]


def test_it_is_watched_restarted_and_limited(service: dict[str, Any]) -> None:
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    assert "127.0.0.1:8000/healthz" in command[-1]
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"\d+g", service["deploy"]["resources"]["limits"]["memory"])


def test_the_gpu_is_reserved_in_the_cuda_profile_only() -> None:
    assert "profiles" not in SERVICES["fusionrnn"]
    assert "reservations" not in SERVICES["fusionrnn"]["deploy"]["resources"]
    cuda = SERVICES["fusionrnn-cuda"]
    assert cuda["profiles"] == ["cuda"]
    assert cuda["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]
