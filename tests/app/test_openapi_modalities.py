"""Forms and examples are right for checkpoints of every modality and task, not only for those that see."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from app.samples import TEXT, vectors
from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.network import FusionRNN
from tests.app.conftest import Open
from tests.support import tiny_tokenizer

VOCABULARY = tiny_tokenizer().size
TOKENS = ({"type": "tokens"}, {"type": "text-rnn", "vocabulary": VOCABULARY, "embedding": 6, "hidden": 8})
SOUND = ({"type": "log-mel"}, {"type": "audio-rnn", "channels": [4, 4], "hidden": 8})
FRAMES = ({"type": "frames", "size": 16, "max_frames": 4}, {"type": "video-rnn", "hidden": 8})
NUMBERS = ({"type": "vectors", "size": 3}, {"type": "vectors-mean", "size": 3, "width": 8})
STEPS = {"type": "recurrent", "hidden": 8}
CLASSES = ({"type": "classification", "classes": 2}, {"labels": ["no", "yes"]})

FORM = {"Content-Type": "application/x-www-form-urlencoded"}

Parts = dict[str, tuple[dict[str, Any], dict[str, Any]]]
CHECKPOINTS: dict[str, tuple[str, Parts, dict[str, Any], dict[str, Any]]] = {
    "everything": ("classification", {"text": TOKENS, "audio": SOUND, "video": FRAMES, "image": NUMBERS}, *CLASSES),
    "words": (
        "transcription",
        {"audio": SOUND},
        {"type": "transcription", "vocabulary": VOCABULARY},
        {"fusion": STEPS, "defaults": {"seconds_per_step": 0.02}},
    ),
    "writer": ("generation", {"text": TOKENS}, {"type": "language-model", "vocabulary": VOCABULARY}, {}),
    "joint": ("embedding", {"audio": SOUND, "text": TOKENS}, {"type": "embedding", "size": 4}, {}),
    "ready": ("classification", {"text": NUMBERS, "audio": NUMBERS}, *CLASSES),
    "talk": (
        "classification",
        {"text": NUMBERS, "audio": NUMBERS},
        {"type": "classification", "classes": 2, "per": "step"},
        {"labels": ["no", "yes"], "fusion": {"type": "contextual", "hidden": 8}},
    ),
    "number": ("regression", {"video": FRAMES}, {"type": "regression"}, {}),
}


def save(folder: Path, name: str) -> None:
    task, modalities, head, rest = CHECKPOINTS[name]
    config = CheckpointConfig.model_validate(
        {
            "name": name,
            "version": "0.0.1",
            "task": task,
            "description": "Random weights, for tests.",
            "modalities": {key: {"features": features} for key, (features, _) in modalities.items()},
            "network": {
                "encoders": {key: encoder for key, (_, encoder) in modalities.items()},
                "fusion": rest.get("fusion", {"type": "concat", "width": 8}),
                "head": head,
            },
        }
        | {key: value for key, value in rest.items() if key != "fusion"}
    )
    torch.manual_seed(0)
    save_checkpoint(folder / name, config, FusionRNN(config.network), tiny_tokenizer())


@pytest.fixture(scope="module")
def client(open_client: Open, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    root = tmp_path_factory.mktemp("modalities")
    for name in CHECKPOINTS:
        save(root, name)
    return open_client(model_dir=[root])


def operation(client: TestClient, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()["paths"][f"/v1/models/{name}/predict"]["post"]
    return found


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_example_of_every_checkpoint_works_and_looks_like_its_answer(client: TestClient, name: str) -> None:
    described = operation(client, name)
    body = described["requestBody"]["content"]["application/json"]["example"]
    assert body.keys() == CHECKPOINTS[name][1].keys()
    answer = client.post(f"/v1/models/{name}/predict", json=body)
    assert answer.status_code == 200, answer.json()
    example = described["responses"]["200"]["content"]["application/json"]["example"]
    assert answer.json().keys() - {"notices"} == example.keys()
    assert answer.json()["modalities"].keys() == example["modalities"].keys()


def test_the_form_says_what_each_part_is(client: TestClient) -> None:
    content = operation(client, "everything")["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]["properties"]
    assert form["text"]["type"] == "string"
    assert form["text"]["examples"] == [TEXT]
    assert "format" not in form["text"]
    for name in ("image", "audio", "video"):
        assert (form[name]["type"], form[name]["format"]) == ("string", "binary")
    assert ".npy" in form["image"]["description"]
    assert ".npy" not in form["audio"]["description"]
    assert content["application/json"]["schema"]["properties"]["audio"]["contentEncoding"] == "base64"


def test_only_what_is_drawn_is_offered_as_a_picture(client: TestClient) -> None:
    for name in CHECKPOINTS:
        assert "image/png" not in operation(client, name)["responses"]["200"]["content"]
    body = operation(client, "everything")["requestBody"]["content"]["application/json"]["example"]
    refused = client.post("/v1/models/everything/predict", json=body, headers={"Accept": "image/png"})
    assert refused.status_code == 406


def test_words_and_tokens_come_as_events_that_add_up(client: TestClient) -> None:
    for name in ("words", "writer"):
        body = operation(client, name)["requestBody"]["content"]["application/json"]["example"]
        said = client.post(f"/v1/models/{name}/predict", json=body, headers={"Accept": "text/event-stream"}).text
        told = [json.loads(line.removeprefix("data: ")) for line in said.splitlines() if line.startswith("data: ")]
        assert "event: error" not in said
        assert [event["index"] for event in told[:-1]] == list(range(len(told) - 1))
        assert told[-1]["text"] == (told[-2]["text"] if told[1:] else "")


def test_steps_that_do_not_pair_are_a_problem_that_counts_them(client: TestClient) -> None:
    posted = {part: base64.b64encode(vectors(3, steps)).decode() for part, steps in (("text", 2), ("audio", 4))}
    answer = client.post("/v1/models/talk/predict", json=posted)
    assert answer.status_code == 422
    assert "audio has 4" in answer.json()["detail"]
    assert answer.json()["limit"] == "equal numbers of steps"
    assert client.post("/v1/models/talk/predict", json={"text": posted["text"]}).status_code == 200


def test_texts_may_come_as_a_form_without_files(client: TestClient) -> None:
    for name, offered in {"writer": True, "joint": True, "everything": True, "words": False}.items():
        content = operation(client, name)["requestBody"]["content"]
        assert ("application/x-www-form-urlencoded" in content) == offered
        assert not offered or "audio" not in content["application/x-www-form-urlencoded"]["schema"]["properties"]
    sent = {"text": "一只 dog & 100% = a+b", "temperature": "0"}
    answers = [
        client.post("/v1/models/writer/predict", **how).raise_for_status().json()
        for how in ({"data": sent}, {"json": sent}, {"files": {key: (None, value) for key, value in sent.items()}})
    ]
    assert answers[0]["text"] == answers[1]["text"] == answers[2]["text"]
    assert client.post("/v1/models/writer/predict", content=b"&&text=a+dog&&seed=&", headers=FORM).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"text=a&audio=RIFF", 415, "a form without files"),
        (b"text=a&tekst=a", 422, "tekst"),
        (b"text=a&text=b", 422, "More than 1 part 'text'"),
        (b"", 400, "no body"),
        (b"&&", 422, "missing or empty"),
        (b"text=", 422, "missing or empty"),
        (b"text=%ff%fe%fd", 400, "UTF-16"),
        (b"&" * 1000, 400, "more than"),
        (b"text=a&" + b"x" * 10_000 + b"=1", 422, "no part or option"),
        (b"text=" + b"%41" * 2**20, 413, "text"),
    ],
)
def test_what_such_a_form_must_not_be(client: TestClient, body: bytes, status: int, said: str) -> None:
    answer = client.post("/v1/models/joint/predict", content=body, headers=FORM)
    assert answer.status_code == status, answer.json()
    assert said in answer.json()["detail"]
    assert answer.json()["remedy"]
