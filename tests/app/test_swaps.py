"""Checkpoints come, are replaced and go while requests run: nobody fails, nobody gets a mix, and memory returns."""

import gc
import json
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from app.engine.registry import Registry
from models.checkpoint import save_checkpoint
from tests.app.conftest import Open, service
from tests.support import tiny_captioner, tiny_config, tiny_network, tiny_tokenizer

URL = "/v1/models/captioner"
ADMIN = {"Authorization": "Bearer secret"}


def put(folder: Path, version: str, seed: int) -> None:
    """Save a captioner whose captions tell its seed."""
    config = tiny_config().model_copy(update={"version": version})
    save_checkpoint(folder, config, tiny_network(config, seed), tiny_tokenizer())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "captioner", "1.0.0", seed=1)
    return tmp_path


@pytest.fixture
def served(open_client: Open, root: Path) -> TestClient:
    return open_client(model_dir=[root], admin_key="secret")


def ask(client: TestClient, jpeg: bytes) -> tuple[str, str]:
    """Version and captions of an answer."""
    answer = client.post(f"{URL}/predict", files={"image": jpeg}, data={"num_captions": 3})
    assert answer.status_code == 200, answer.text
    return answer.json()["version"], json.dumps([caption["text"] for caption in answer.json()["captions"]])


def load(client: TestClient, name: str = "captioner") -> Any:
    return client.post(f"/v1/models/{name}/load", headers=ADMIN)


@pytest.mark.parametrize("path", ["load", "unload"])
@pytest.mark.parametrize(
    ("key", "header", "status"),
    [
        (None, "Bearer secret", 403),
        ("secret", None, 401),
        ("secret", "secret", 401),
        ("secret", "Bearer wrong", 403),
    ],
)
def test_only_the_admin_changes_models(
    open_client: Open, key: str | None, header: str | None, status: int, path: str
) -> None:
    client = open_client(**({"admin_key": key} if key else {}))
    answer = client.post(f"{URL}/{path}", headers={"Authorization": header} if header else {})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["remedy"]
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert client.get(URL).status_code == 200


def test_with_several_processes_models_are_changed_by_a_signal(open_client: Open) -> None:
    answer = open_client(admin_key="secret", workers=2).post(f"{URL}/load", headers=ADMIN)
    assert answer.status_code == 409
    assert "SIGHUP" in answer.json()["remedy"]


def test_a_folder_that_is_new_is_loaded(served: TestClient, root: Path, jpeg: bytes) -> None:
    assert load(served, "poet").status_code == 404
    tiny_captioner(root / "somewhere", "poet")
    answer = load(served, "poet")
    assert (answer.status_code, answer.json()["id"]) == (200, "poet")
    assert served.post("/v1/models/poet/predict", files={"image": jpeg}).status_code == 200
    assert "/v1/models/poet/predict" in served.get("/openapi.json").json()["paths"]


def test_no_path_of_a_clients_making_is_looked_at(
    served: TestClient, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    tiny_captioner(elsewhere / "mine", "mine")
    monkeypatch.chdir(elsewhere)
    assert load(served, "mine").status_code == 404


def test_a_folder_that_is_broken_changes_nothing(served: TestClient, root: Path, jpeg: bytes) -> None:
    before = ask(served, jpeg)
    weights = root / "captioner" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    answer = load(served)
    assert (answer.status_code, answer.json()["type"].rsplit(":")[-1]) == (409, "load-failed")
    assert "model.safetensors" in answer.json()["detail"]
    assert ask(served, jpeg) == before


def test_a_folder_that_becomes_anothers_takes_no_name_away(
    served: TestClient, root: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_captioner(root / "other", "other")
    assert load(served, "other").status_code == 200
    before = served.get("/v1/models/other").json()["digest"]
    put(other, "2.0.0", seed=2)
    (other / "config.json").write_text((root / "captioner" / "config.json").read_text())
    # As if it had been written behind the look at its name.
    monkeypatch.setattr("app.engine.registry._is_called", lambda *_: True)
    answer = load(served, "other")
    assert (answer.status_code, "is 'captioner' now" in answer.json()["detail"]) == (409, True)
    assert served.get("/v1/models/other").json()["digest"] == before
    assert ask(served, jpeg)[0] == "1.0.0"


def test_a_folder_that_was_mended_is_no_failure_any_more(served: TestClient, root: Path) -> None:
    registry = service(served).registry
    registry.failed = [*registry.failed, *_failures("poet")]
    tiny_captioner(root / "poet", "poet")
    assert load(served, "poet").status_code == 200
    assert served.get("/v1/models").json()["failed"] == []


def _failures(name: str) -> Iterator[Any]:
    from app.engine.registry import Failure

    yield Failure(name, "it was broken")


def test_an_unloaded_model_is_gone_until_it_is_loaded(served: TestClient, jpeg: bytes) -> None:
    before = ask(served, jpeg)
    assert served.post(f"{URL}/unload", headers=ADMIN).status_code == 204
    assert served.post(f"{URL}/predict", files={"image": jpeg}).status_code == 404
    assert served.get("/v1/models").json()["data"] == []
    assert served.post(f"{URL}/unload", headers=ADMIN).status_code == 404
    assert load(served).status_code == 200
    assert ask(served, jpeg) == before


def test_nothing_is_loaded_beside_the_first_loading(open_client: Open, root: Path) -> None:
    client = open_client(model_dir=[root], admin_key="secret")
    registry = service(client).registry
    registry.loaded = False
    for answer in (load(client), client.post(f"{URL}/unload", headers=ADMIN)):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    registry.loaded = True
    assert load(client).status_code == 200


def test_under_load_nobody_fails_and_nobody_gets_a_mix(served: TestClient, root: Path, jpeg: bytes) -> None:
    folder = root / "captioner"
    wanted = {}
    for seed in (2, 1):
        put(folder, f"{seed}.0.0", seed)
        assert load(served).status_code == 200
        version, captions = ask(served, jpeg)
        wanted[version] = captions
    assert len(set(wanted.values())) == 2
    over = threading.Event()

    def hammer() -> list[tuple[str, str]]:
        answers = []
        while not over.is_set():
            answers.append(ask(served, jpeg))
        return answers

    with ThreadPoolExecutor(4) as pool:
        hammering = [pool.submit(hammer) for _ in range(4)]
        try:
            for seed in [2, 1] * 2:
                put(folder, f"{seed}.0.0", seed)
                assert load(served).status_code == 200
                time.sleep(0.05)
        finally:
            over.set()
        answers = [answer for one in hammering for answer in one.result(60)]
    assert {version for version, _ in answers} == set(wanted)
    assert all(captions == wanted[version] for version, captions in answers)
    assert not service(served).admission.reservations


def test_what_was_replaced_is_freed(served: TestClient, jpeg: bytes) -> None:
    state = service(served)
    old = []
    for _ in range(3):
        ask(served, jpeg)
        old.append(weakref.ref(state.registry.get("captioner").network))
        assert load(served).status_code == 200
    _until(lambda: not any(network() is not None for network in old), "a replaced network stays in memory")


def test_the_memory_of_an_unloaded_network_is_given_back_on_a_gpu_too(
    served: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    assert served.post(f"{URL}/unload", headers=ADMIN).status_code == 204
    assert emptied == [True]


# Resting


def test_a_model_that_nobody_asks_for_rests_and_wakes_when_asked(open_client: Open, root: Path, jpeg: bytes) -> None:
    client = open_client(model_dir=[root], idle_unload_seconds=0.4)
    state = service(client)
    card = client.get(URL).json()
    network = weakref.ref(state.registry.get("captioner").network)
    _until(lambda: state.registry.is_resting("captioner"), "the model never rests")
    _until(lambda: network() is None, "a resting model stays in memory")
    assert client.get("/v1/models").json()["data"] == [card]
    assert client.get("/readyz").status_code == 200
    assert f"{URL}/predict" in client.get("/openapi.json").json()["paths"]
    # Also where no scrape has reached this process.
    assert 'fusionrnn_models{state="resting"} 1.0' in state.metrics.text().decode()
    assert 'fusionrnn_models{state="resting"} 1.0' in client.get("/metrics").text
    assert ask(client, jpeg)[0] == "1.0.0"
    assert 'fusionrnn_models{state="resting"} 0.0' in state.metrics.text().decode()


@pytest.mark.parametrize(("seconds", "rests"), [(50, False), (61, True)])
def test_a_model_rests_once_nobody_has_used_it_for_the_idle_time(
    open_client: Open, root: Path, seconds: float, rests: bool
) -> None:
    swaps = service(open_client(model_dir=[root], idle_unload_seconds=60)).swaps
    swaps._used["captioner"] = time.monotonic() - seconds
    assert swaps._is_idle("captioner") is rests


def test_an_unloading_meanwhile_ends_no_watch(open_client: Open, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "other", "1.0.0", seed=2)
    client = open_client(model_dir=[root], idle_unload_seconds=0.4, admin_key="secret")
    state = service(client)
    gate, real = threading.Event(), Registry.load

    def slow(self: Registry, name: str, prepare: Any) -> Any:
        assert gate.wait(30)
        return real(self, name, prepare)

    monkeypatch.setattr(Registry, "load", slow)
    with ThreadPoolExecutor(1) as pool:
        # While this one loads, the watch waits for its turn to let the other one rest.
        loading = pool.submit(load, client)
        time.sleep(0.8)
        state.registry.unload("captioner", rest=False)
        gate.set()
        assert loading.result(30).status_code == 200
    _until(lambda: state.registry.is_resting("captioner"), "the watch is over")


def test_a_model_that_wakes_is_known_all_the_while(served: TestClient, root: Path) -> None:
    registry = service(served).registry
    pipeline, done = registry.get("captioner"), threading.Event()

    def wake_and_rest() -> None:
        while not done.is_set():
            registry.unload("captioner", rest=True)
            registry._serve(pipeline, root / "captioner")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=wake_and_rest)
    thread.start()
    try:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert registry.profile("captioner").config.name == "captioner"
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_names_that_are_not_served_leave_no_trace(open_client: Open, root: Path, jpeg: bytes) -> None:
    client = open_client(model_dir=[root], idle_unload_seconds=60)
    known = set(service(client).swaps._used)
    for number in range(5):
        assert client.post(f"/v1/models/unknown-{number}/predict", files={"image": jpeg}).status_code == 404
    assert set(service(client).swaps._used) <= known | {"captioner"}


def test_all_who_ask_for_a_resting_model_wait_for_one_load(
    open_client: Open, root: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(model_dir=[root], admin_key="secret")
    state = service(client)
    state.registry.unload("captioner", rest=True)
    loads = []
    real = Registry.load

    def counted(self: Registry, name: str, prepare: Any) -> Any:
        loads.append(name)
        time.sleep(0.2)
        return real(self, name, prepare)

    monkeypatch.setattr(Registry, "load", counted)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(client, jpeg), range(6)))
    assert len(set(answers)) == 1
    assert loads == ["captioner"]


def test_an_unloading_is_not_undone_by_whoever_waited_for_the_model_to_wake(
    open_client: Open, root: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(model_dir=[root], admin_key="secret")
    state = service(client)
    tiny_captioner(root / "poet", "poet")
    state.registry.unload("captioner", rest=True)
    gate, real = threading.Event(), Registry.load

    def slow(self: Registry, name: str, prepare: Any) -> Any:
        assert gate.wait(30)
        return real(self, name, prepare)

    monkeypatch.setattr(Registry, "load", slow)
    with ThreadPoolExecutor(3) as pool:
        # One loads, the unloading waits for its turn, and the waking behind it.
        loading = pool.submit(load, client, "poet")
        _until(state.swaps._lock.locked, "nothing is being loaded")
        unloading = pool.submit(client.post, f"{URL}/unload", headers=ADMIN)
        _until(lambda: len(state.swaps._lock._waiters or ()) == 1, "nothing waits to be unloaded")
        asking = pool.submit(client.post, f"{URL}/predict", files={"image": jpeg})
        _until(lambda: len(state.swaps._lock._waiters or ()) == 2, "nothing waits to be loaded again")
        gate.set()
        assert (loading.result(30).status_code, unloading.result(30).status_code) == (200, 204)
        assert asking.result(30).status_code == 404
    assert client.get(URL).status_code == 404


def test_a_resting_model_whose_folder_broke_is_not_available(open_client: Open, root: Path, jpeg: bytes) -> None:
    client = open_client(model_dir=[root])
    service(client).registry.unload("captioner", rest=True)
    (root / "captioner" / "model.safetensors").write_bytes(b"")
    answer = client.post(f"{URL}/predict", files={"image": jpeg})
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert "model.safetensors" in answer.json()["detail"]


def test_waking_takes_no_longer_than_an_answer_may(
    open_client: Open, root: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(model_dir=[root], deadline_seconds=0.3)
    service(client).registry.unload("captioner", rest=True)
    gate, real = threading.Event(), Registry.load

    def slow(self: Registry, name: str, prepare: Any) -> Any:
        assert gate.wait(30)
        return real(self, name, prepare)

    monkeypatch.setattr(Registry, "load", slow)
    answer = client.post(f"{URL}/predict", files={"image": jpeg})
    gate.set()
    assert (answer.status_code, answer.headers["content-type"]) == (504, "application/problem+json")
    assert 'fusionrnn_evicted_total{reason="deadline"} 1.0' in service(client).metrics.text().decode()


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    give_up = time.monotonic() + 10
    while not holds():
        gc.collect()
        assert time.monotonic() < give_up, otherwise
        time.sleep(0.05)


def test_what_rests_wakes_from_the_folder_that_it_came_from(open_client: Open, root: Path, jpeg: bytes) -> None:
    # It comes first by its name, and has been called so, but cannot be served.
    put(root / "aaa", "0.9.0", seed=3)
    (root / "aaa" / "model.safetensors").write_bytes(b"torn")
    client = open_client(model_dir=[root])
    before = ask(client, jpeg)
    service(client).registry.unload("captioner", rest=True)
    assert ask(client, jpeg) == before
