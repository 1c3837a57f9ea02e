"""What is served, and what is said about what is not."""

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.engine.registry import checkpoint_folders, find_checkpoint
from app.settings import Settings
from tests.app.conftest import Open
from tests.support import tiny_captioner


def test_a_card_says_what_a_client_needs(open_client: Open) -> None:
    client = open_client()
    listed = client.get("/v1/models").json()
    card = client.get("/v1/models/captioner").json()
    assert listed == {"object": "list", "data": [card], "failed": []}
    assert (card["id"], card["object"], card["task"], card["version"]) == ("captioner", "model", "captioning", "0.0.1")
    assert card["modalities"]["image"]["max_items"] == 4
    video = card["modalities"]["video"]
    assert (video["required"], video["max_items"]) == (False, 1)
    limits = Settings().limits
    assert card["modalities"]["image"]["limits"] == {"bytes": limits.image_bytes, "pixels": limits.image_pixels}
    assert video["limits"]["seconds"] == limits.video_seconds
    assert isinstance(video["limits"]["frames"], int)
    assert video["limits"].keys() == {"bytes", "seconds", "pixels", "frames"}
    assert card["languages"] == ["en", "zh"]
    assert card["device"] == "cpu"
    assert len(card["digest"]) == 64
    assert card["parameters"] > 0
    assert card["options"]["properties"]["beam_size"]["maximum"] == 10


def test_an_unknown_card_lists_the_known(open_client: Open) -> None:
    answer = open_client().get("/v1/models/poet")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "captioner" in answer.json()["remedy"]


def test_a_broken_folder_is_reported_and_the_others_serve(open_client: Open, tmp_path: Path, jpeg: bytes) -> None:
    tiny_captioner(tmp_path / "good", "good")
    broken = tiny_captioner(tmp_path / "broken", "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    client = open_client(model_dir=[tmp_path])
    listed = client.get("/v1/models").json()
    assert [card["id"] for card in listed["data"]] == ["good"]
    reasons = {failure["name"]: failure["reason"] for failure in listed["failed"]}
    assert reasons.keys() == {"broken"}
    assert "model.safetensors" in reasons["broken"]
    assert client.get("/readyz").status_code == 200
    assert client.post("/v1/models/good/predict", files={"image": jpeg}).status_code == 200
    missing = client.get("/v1/models/broken").json()
    assert reasons["broken"] in missing["detail"]


def test_a_folder_without_a_config_is_no_checkpoint_that_failed(open_client: Open, tmp_path: Path) -> None:
    tiny_captioner(tmp_path / "good", "good")
    for name in ("data", "empty", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "photo.jpg").write_bytes(b"")
    with capture_logs() as logged:
        client = open_client(model_dir=[tmp_path])
    assert client.get("/v1/models").json()["failed"] == []
    assert 'fusionrnn_models{state="failed"} 0.0' in client.get("/metrics").text
    assert [line["folders"] for line in logged if "config.json" in line["event"]] == [["data", "empty"]]
    assert not [line for line in logged if line["event"] == "not served"]


def test_the_second_of_a_name_is_reported(open_client: Open, zoo: Path, tmp_path: Path) -> None:
    tiny_captioner(tmp_path / "copy")
    listed = open_client(model_dir=[zoo, tmp_path]).get("/v1/models").json()
    assert [card["id"] for card in listed["data"]] == ["captioner"]
    assert [failure["name"] for failure in listed["failed"]] == ["copy"]
    assert "captioner" in listed["failed"][0]["reason"]


def test_a_folder_copied_in_is_served_after_a_restart(open_client: Open, tmp_path: Path, jpeg: bytes) -> None:
    mine = tiny_captioner(tmp_path / "made" / "mine", "mine")
    root = tmp_path / "served"
    root.mkdir()
    before = open_client(model_dir=[root])
    assert before.get("/v1/models").json()["data"] == []
    answer = before.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "There is no checkpoint to serve.")
    shutil.copytree(mine, root / "mine")
    after = open_client(model_dir=[root])
    assert after.post("/v1/models/mine/predict", files={"image": jpeg}).status_code == 200


def test_a_folder_may_be_named_itself(open_client: Open, zoo: Path) -> None:
    client = open_client(model_dir=[zoo / "captioner"])
    assert client.get("/v1/models/captioner").status_code == 200


def test_a_config_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("[" * 200_000)
    mine = tiny_captioner(tmp_path / "mine", "mine")
    assert find_checkpoint("mine", [tmp_path]) == mine


def test_a_config_larger_than_any_is_not_read_for_its_name(tmp_path: Path) -> None:
    mine = tiny_captioner(tmp_path / "mine", "mine")
    config = mine / "config.json"
    config.write_text(config.read_text() + " " * 4 * 2**20)
    assert find_checkpoint("mine", [tmp_path]) is None


def test_a_folder_that_is_somebody_elses_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a volume of its own, whose lost+found only root may look into.
    (tmp_path / "lost+found").mkdir()
    mine = tiny_captioner(tmp_path / "mine", "mine")
    is_file = Path.is_file

    def looked(self: Path) -> bool:
        if self.parent.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return is_file(self)

    # The tests may run as root.
    monkeypatch.setattr(Path, "is_file", looked)
    assert checkpoint_folders(tmp_path) == ([mine], [tmp_path / "lost+found"])


def test_plugins_run_before_loading(open_client: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fusionrnn_good_plugin.py").write_text("LOADED = True\n")
    (tmp_path / "fusionrnn_bad_plugin.py").write_text("raise OSError('no such driver')\n")
    (tmp_path / "fusionrnn_worse_plugin.py").write_text("{}['weights.bin']\n")
    monkeypatch.syspath_prepend(tmp_path)
    client = open_client(plugins=["fusionrnn_good_plugin", "fusionrnn_bad_plugin", "fusionrnn_worse_plugin"])
    listed = client.get("/v1/models").json()
    assert listed["failed"] == [
        {"name": "plugin fusionrnn_bad_plugin", "reason": "no such driver"},
        {"name": "plugin fusionrnn_worse_plugin", "reason": "KeyError('weights.bin')"},
    ]
    assert [card["id"] for card in listed["data"]] == ["captioner"]


def test_folders_and_devices_that_are_not_there(open_client: Open, zoo: Path, tmp_path: Path) -> None:
    listed = open_client(model_dir=[tmp_path / "nowhere", zoo]).get("/v1/models").json()
    assert listed["failed"][0]["name"].endswith("nowhere")
    assert len(listed["data"]) == 1


def test_a_device_that_is_not_there(open_client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    listed = open_client(device="cuda").get("/v1/models").json()
    assert (listed["data"], listed["failed"][0]["name"]) == ([], "device")
