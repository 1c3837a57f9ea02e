"""POST /v1/models/{model}/predict, when all is well."""

import asyncio
import base64
import gc
import io
import json
import re
import weakref
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.api.parts import _SLICE, _from_first_boundary
from app.errors import ServiceError
from tests.app.conftest import service
from tests.app.media import video

URL = "/v1/models/captioner/predict"


def events(body: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events as pairs of name and data."""
    found = []
    for block in body.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_a_photo_gets_a_caption(client: TestClient, jpeg: bytes) -> None:
    answer = client.post(URL, files={"image": ("photo.jpg", jpeg)})
    body = answer.json()
    assert answer.status_code == 200
    assert {key: body[key] for key in ("model", "version", "task")} == {
        "model": "captioner",
        "version": "0.0.1",
        "task": "captioning",
    }
    assert body["id"] == answer.headers["x-request-id"]
    assert [caption["language"] for caption in body["captions"]] == ["en"]
    assert body["modalities"] == {"image": {"contribution": 1.0}}
    assert "explanation" not in body


def test_options_come_as_form_fields(client: TestClient, jpeg: bytes) -> None:
    data = {"language": "zh", "num_captions": "3", "max_length": "4"}
    captions = client.post(URL, files={"image": jpeg}, data=data).json()["captions"]
    assert [caption["language"] for caption in captions] == ["zh"] * 3
    assert all(0 < len(caption["text"]) <= 4 for caption in captions)
    scores = [caption["log_probability"] for caption in captions]
    assert len({caption["text"] for caption in captions}) == 3
    assert all(score < 0 for score in scores)


def test_json_answers_as_multipart_does(client: TestClient, jpeg: bytes) -> None:
    encoded = base64.b64encode(jpeg).decode()
    form = client.post(URL, files={"image": jpeg}, data={"beam_size": "2"}).json()["captions"]
    assert client.post(URL, json={"image": encoded, "beam_size": 2, "seed": None}).json()["captions"] == form
    assert client.post(URL, json={"image": [encoded], "beam_size": 2}).json()["captions"] == form


def test_several_photos_and_a_video_are_looked_at_together(client: TestClient, jpeg: bytes) -> None:
    files = [("image", jpeg), ("image", jpeg), ("video", video())]
    body = client.post(URL, files=files, data={"explain": "true"}).json()
    frames = [len(token["attention"]) for token in body["explanation"]["tokens"]]
    assert min(frames) >= 3


def test_a_video_alone_gets_a_caption(client: TestClient) -> None:
    answer = client.post(URL, files={"video": ("phone.mp4", video())})
    assert answer.status_code == 200
    assert answer.json()["captions"][0]["text"]


def test_explain_says_where_each_word_looked(client: TestClient, jpeg: bytes) -> None:
    body = client.post(URL, files={"image": jpeg}, data={"explain": "true"}).json()
    tokens = body["explanation"]["tokens"]
    assert " ".join(token["token"] for token in tokens) == body["captions"][0]["text"]
    for token in tokens:
        total = sum(weight for frame in token["attention"] for row in frame for weight in row)
        assert total == pytest.approx(1, abs=1e-3)


def test_the_overlay_is_a_png(client: TestClient, jpeg: bytes) -> None:
    answer = client.post(URL, files={"image": jpeg}, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")


def test_events_bring_the_caption_token_by_token(client: TestClient, jpeg: bytes) -> None:
    whole = client.post(URL, files={"image": jpeg}).json()
    answer = client.post(URL, files={"image": jpeg}, headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *tokens, (last, result) = events(answer.text)
    assert {name for name, _ in tokens} == {"token"}
    assert [token["index"] for _, token in tokens] == list(range(len(tokens)))
    assert last == "result"
    assert result["captions"] == whole["captions"]
    assert tokens[-1][1]["text"] == whole["captions"][0]["text"]
    assert result.keys() == whole.keys()


@pytest.mark.parametrize("error", [ServiceError("Known.", "Wait."), RuntimeError("a secret")])
def test_a_failure_amid_a_stream_is_an_event(
    client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken() -> Any:
        yield {"token": "a", "text": "a", "index": 0}
        raise error

    monkeypatch.setattr(service(client).registry.get("captioner"), "searches", lambda _: [broken()])
    answer = client.post(URL, files={"image": jpeg}, headers={"Accept": "text/event-stream"})
    (first, _), (last, problem) = events(answer.text)
    assert (first, last, problem["status"]) == ("token", "error", 500)
    assert "secret" not in answer.text


def test_sampling_is_repeatable_with_a_seed(client: TestClient, jpeg: bytes) -> None:
    data = {"temperature": "2", "seed": "7"}
    first, second = (client.post(URL, files={"image": jpeg}, data=data).json()["captions"] for _ in range(2))
    other = client.post(URL, files={"image": jpeg}, data={**data, "seed": "8"}).json()["captions"]
    assert first == second != other


def test_fields_that_a_form_leaves_empty_are_not_given(client: TestClient, jpeg: bytes) -> None:
    boundary = "b"
    fields = [
        ("image", 'filename="photo.jpg"', jpeg),
        ("video", 'filename=""', b""),
        ("seed", "", b""),
        ("language", "", b""),
    ]
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; {extra}\r\n\r\n'.encode() + value + b"\r\n"
        for name, extra, value in fields
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = client.post(URL, content=body + f"--{boundary}--\r\n".encode(), headers=headers)
    assert answer.status_code == 200


def test_a_form_may_begin_with_words_for_nobody(client: TestClient, jpeg: bytes) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n' + jpeg
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for before in (b"This is a message in MIME format.\r\n", b"\r\n", b"no --b yet\r\n--\r\n", b""):
        answer = client.post(URL, content=before + part + b"\r\n--b--\r\n", headers=headers)
        assert answer.status_code == 200, before


def test_the_first_boundary_is_found_however_the_body_is_cut() -> None:
    body = b"words\r\n--limi\r\n--limit\r\nthe rest\r\n--limit--"

    async def read(size: int) -> bytes:
        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(body), size):
                yield body[at : at + size]

        return b"".join([chunk async for chunk in _from_first_boundary(chunks(), b"limit")])

    for size in range(1, len(body) + 1):
        assert asyncio.run(read(size)) == b"--limit\r\nthe rest\r\n--limit--"


def test_server_timing_tells_every_stage(client: TestClient, jpeg: bytes) -> None:
    header = client.post(URL, files={"image": jpeg}).headers["server-timing"]
    stages = dict(re.findall(r"(\w+);dur=([\d.]+)", header))
    assert set(stages) == {"queue", "decode", "features", "inference"}
    assert all(0 <= float(spent) < 60_000 for spent in stages.values())
    assert float(stages["inference"]) > 0


def test_a_sane_request_id_is_echoed(client: TestClient, jpeg: bytes) -> None:
    answer = client.post(URL, files={"image": jpeg}, headers={"X-Request-ID": "order 66"})
    assert answer.headers["x-request-id"] == answer.json()["id"] == "order 66"


@pytest.mark.parametrize("odd", ["", "x" * 129, "caf\xe9", "tab\there"])
def test_another_request_id_is_replaced(client: TestClient, odd: str) -> None:
    answer = client.get("/healthz", headers={b"X-Request-ID": odd.encode("latin-1")})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_an_unexpected_exception_is_a_problem_that_tells_nothing(
    client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a secret")

    with monkeypatch.context() as patched:
        patched.setattr(service(client).registry.get("captioner"), "searches", broken)
        answer = client.post(URL, files={"image": jpeg})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] in answer.json()["remedy"]
    assert "secret" not in answer.text
    assert client.post(URL, files={"image": jpeg}).status_code == 200


@pytest.mark.parametrize(("accept", "held"), [("application/json", False), ("image/png", True)])
def test_pixels_are_held_while_it_is_answered_only_to_be_drawn_over(
    client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, accept: str, held: bool
) -> None:
    runner = service(client).runner
    prepare, predict = runner.prepare, runner.predict
    pixels: list[weakref.ref[Any]] = []
    seen: list[bool] = []

    async def prepared(call: Any, bundle: Any) -> Any:
        decoded, features = await prepare(call, bundle)
        pixels.append(weakref.ref(decoded.media["image"][0]))
        return decoded, features

    async def predicted(*given: Any, **options: Any) -> Any:
        gc.collect()
        seen.append(pixels[0]() is not None)
        return await predict(*given, **options)

    monkeypatch.setattr(runner, "prepare", prepared)
    monkeypatch.setattr(runner, "predict", predicted)
    assert client.post(URL, files={"image": jpeg}, headers={"Accept": accept}).status_code == 200
    assert seen == [held]


def test_a_large_file_in_json_is_the_same_as_in_a_form(client: TestClient) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1000, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    data = file.getvalue()
    assert len(data) > 2 * _SLICE
    answers = [
        client.post(URL, files={"image": data}),
        client.post(URL, json={"image": base64.b64encode(data).decode()}),
    ]
    assert answers[0].json()["captions"] == answers[1].json()["captions"]
    spoilt = base64.b64encode(data).decode()[:-1] + "!"
    assert client.post(URL, json={"image": spoilt}).status_code == 400
