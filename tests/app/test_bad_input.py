"""What a client can do wrong: a 4xx problem that names part, limit and remedy, and the next request works."""

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.media.audio import decode_audio
from models.network import FusionRNN
from models.pipeline import Pipeline
from tests.app.conftest import Open, service
from tests.app.media import huge_png, nan_wav, video, video_without_frames, zip_file
from tests.support import encoded_photo, tiny_config, tiny_tokenizer

URL = "/v1/models/captioner/predict"
JPEG = encoded_photo()
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.fixture(autouse=True)
def _the_next_request_works(client: TestClient) -> Iterator[None]:
    yield
    assert client.post(URL, files={"image": JPEG}).status_code == 200
    assert not service(client).admission.reservations


def problem(answer: Any, status: int) -> dict[str, Any]:
    """The body of a problem, checked for what each must have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "remedy"} <= body.keys()
    return body


MEDIA = {
    "truncated JPEG": ("image", JPEG[: len(JPEG) // 2], 400, None),
    "PNG of 50,000 x 50,000": ("image", huge_png(), 422, "64000000 pixels"),
    "text named .jpg": ("image", b"This is no photo, whatever its name says.\n", 415, None),
    "zip": ("image", zip_file(), 415, None),
    "video as image": ("image", video(), 415, None),
    "empty file": ("image", b"", 422, None),
    "video without frames": ("video", video_without_frames(), 415, None),
    "truncated video": ("video", video()[:200], 400, None),
    "photo as video": ("video", JPEG, 415, None),
}


@pytest.mark.parametrize(("part", "data", "status", "limit"), MEDIA.values(), ids=MEDIA.keys())
def test_a_medium_that_cannot_be_used(
    client: TestClient, part: str, data: bytes, status: int, limit: str | None
) -> None:
    body = problem(client.post(URL, files={part: ("photo.jpg", data)}), status)
    assert body["modality"] == part
    if limit is not None:
        assert body["limit"] == limit


def test_sound_that_is_not_numbers(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = service(client).registry
    listener = object.__new__(Pipeline)
    vars(listener).update(vars(registry.get("captioner")))
    listener.config = listener.config.model_copy(update={"name": "listener", "modalities": {}})
    listener.accepts = {"audio": 1}
    monkeypatch.setattr(listener, "decode", lambda bundle, limits: decode_audio(bundle["audio"][0], limits, rate=16000))
    monkeypatch.setattr(registry, "served", {**registry.served, "listener": listener})
    body = problem(client.post("/v1/models/listener/predict", files={"audio": nan_wav()}), 400)
    assert body["modality"] == "audio"


def test_empty_body(client: TestClient) -> None:
    body = problem(client.post(URL), 400)
    assert (body["modality"], body["limit"]) == ("image, video", "at least 1 part")


def test_empty_body_of_unknown_length(client: TestClient) -> None:
    problem(client.post(URL, content=iter([b""]), headers=FORM), 400)


def test_no_part(client: TestClient) -> None:
    body = problem(client.post(URL, content=b"--b--\r\n", headers=FORM), 422)
    assert (body["modality"], body["limit"]) == ("image, video", "at least 1 part")


def test_options_without_a_part(client: TestClient) -> None:
    for answer in (client.post(URL, data={"language": "en"}), client.post(URL, json={"language": "en"})):
        assert problem(answer, 422)["modality"] == "image, video"


@pytest.mark.parametrize("part", ["audio", "text"])
def test_a_part_that_the_model_does_not_take(client: TestClient, part: str) -> None:
    body = problem(client.post(URL, files={"image": JPEG, part: b"RIFF"}), 422)
    assert body["modality"] == part
    assert "image or video" in body["remedy"]


def test_two_of_a_single_part(client: TestClient) -> None:
    body = problem(client.post(URL, files=[("video", video()), ("video", video())]), 422)
    assert (body["modality"], body["limit"]) == ("video", "1 video per request")


def test_more_photos_than_allowed(client: TestClient) -> None:
    body = problem(client.post(URL, files=[("image", JPEG)] * 5), 422)
    assert (body["modality"], body["limit"]) == ("image", "4 image per request")
    encoded = base64.b64encode(JPEG).decode()
    assert problem(client.post(URL, json={"image": [encoded] * 5}), 422)["limit"] == "4 image per request"


def test_an_option_twice(client: TestClient) -> None:
    body = problem(client.post(URL, files=[("image", JPEG), ("seed", (None, "1")), ("seed", (None, "2"))]), 422)
    assert (body["field"], body["limit"]) == ("seed", "1 seed per request")


def test_unknown_option(client: TestClient) -> None:
    body = problem(client.post(URL, files={"image": JPEG}, data={"beams": "3"}), 422)
    assert body["field"] == "beams"
    assert "beam_size" in body["remedy"]


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("beam_size", "11", "<= 10"),
        ("beam_size", "0", ">= 1"),
        ("temperature", "nan", "<= 2.0"),
        ("language", "fr", "'en' or 'zh'"),
    ],
)
def test_option_out_of_range(client: TestClient, name: str, value: str, limit: str) -> None:
    for answer in (
        client.post(URL, files={"image": JPEG}, data={name: value}),
        client.post(URL, json={"image": base64.b64encode(JPEG).decode(), name: value}),
    ):
        body = problem(answer, 422)
        assert body["field"] == name
        assert body["limit"] == limit


@pytest.mark.parametrize("name", ["beam_size", "length_penalty", "seed"])
def test_a_boolean_is_no_number(client: TestClient, name: str) -> None:
    for value in (True, False):
        sent = {"image": base64.b64encode(JPEG).decode(), name: value}
        body = problem(client.post(URL, json=sent), 422)
        assert body["field"] == name
        assert "should be a valid" in body["detail"]


def test_an_option_that_is_too_long(client: TestClient) -> None:
    assert problem(client.post(URL, files={"image": JPEG}, data={"language": "x" * 5000}), 413)["limit"] == "4096 bytes"


@pytest.mark.parametrize("length", ["many", "-1", ""])
def test_a_length_that_is_no_number_announces_nothing(client: TestClient, length: str) -> None:
    headers = {**FORM, "Content-Length": length}
    assert "no body" in problem(client.post(URL, content=b"--b--", headers=headers), 400)["detail"]


def test_explain_that_is_neither_true_nor_false(client: TestClient) -> None:
    assert problem(client.post(URL, files={"image": JPEG}, data={"explain": "perhaps"}), 422)["field"] == "explain"


def test_a_captioner_whose_encoder_shows_no_regions_refuses_to_explain(open_client: Open, tmp_path: Path) -> None:
    said = tiny_config("small").model_dump(mode="json")
    said["network"]["encoders"]["image"] = {"type": "image-small", "width": 16}
    config = CheckpointConfig.model_validate(said)
    save_checkpoint(tmp_path / "small", config, FusionRNN(config.network).eval(), tiny_tokenizer())
    client = open_client(model_dir=[tmp_path])
    assert client.get("/v1/models/small").json()["explains"] is False
    body = problem(client.post("/v1/models/small/predict", files={"image": JPEG}, data={"explain": "true"}), 422)
    assert (body["field"], body["detail"]) == ("explain", "This model explains nothing.")


def test_a_body_of_no_type_says_so(client: TestClient) -> None:
    assert problem(client.post(URL, content=b"{}"), 415)["detail"] == "The body has no Content-Type."


def test_a_range_that_is_none_is_no_error(client: TestClient) -> None:
    answer = client.get("/live", headers={"Range": "bytes=5-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_a_stream_cannot_be_explained(client: TestClient) -> None:
    headers = {"Accept": "text/event-stream"}
    body = problem(client.post(URL, files={"image": JPEG}, data={"explain": "1"}, headers=headers), 422)
    assert body["field"] == "explain"


def test_bad_media_before_a_stream_are_a_plain_problem(client: TestClient) -> None:
    headers = {"Accept": "text/event-stream"}
    assert problem(client.post(URL, files={"image": zip_file()}, headers=headers), 415)["modality"] == "image"


def test_unknown_model(client: TestClient) -> None:
    body = problem(client.post("/v1/models/poet/predict", files={"image": JPEG}), 404)
    assert "captioner" in body["remedy"]
    assert "poet" in body["detail"]


def test_an_answer_that_there_is_not(client: TestClient) -> None:
    problem(client.post(URL, files={"image": JPEG}, headers={"Accept": "audio/mpeg"}), 406)


def test_a_body_of_another_type(client: TestClient) -> None:
    assert "multipart/form-data" in problem(client.post(URL, content=JPEG), 415)["remedy"]


@pytest.mark.parametrize(
    "body",
    [
        b"no boundary at all",
        b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nhalf a pho',
        b"--b\r\nContent-Type: image/jpeg\r\n\r\nnameless\r\n--b--\r\n",
        b"--b\r\n" + b"X-Long: " + b"x" * 10_000 + b"\r\n\r\n\r\n--b--\r\n",
    ],
    ids=["no boundary", "cut off", "nameless part", "long header"],
)
def test_malformed_multipart(client: TestClient, body: bytes) -> None:
    problem(client.post(URL, content=body, headers=FORM), 400)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", None),
        (b"[1]", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b'{"image": "###"}', "image"),
        (b'{"image": "abc"}', "image"),
        (b'{"image": 7}', "image"),
        (b'{"image": [["aGk="]]}', "image"),
    ],
)
def test_malformed_json(client: TestClient, body: bytes, named: str | None) -> None:
    answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, 400).get("modality") == named


def test_a_key_that_comes_twice_is_refused(client: TestClient) -> None:
    body = b'{"image": "aGk=", "image": "aGs="}'
    answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, 422)["field"] == "image"


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary_says_so(client: TestClient, content_type: str) -> None:
    answer = client.post(URL, content=b"--b\r\n", headers={"Content-Type": content_type})
    assert "no boundary" in problem(answer, 400)["detail"]


@pytest.mark.parametrize(
    "body",
    [b'{"image": [' + b"[]," * 300_000 + b"[]]}", b"[" + b"{}," * 300_000 + b"{}]", b'{"a":' * 300_000],
    ids=["arrays", "objects", "nested"],
)
def test_json_of_many_values_is_not_even_parsed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("app.api.parts.json.loads", lambda *_, **__: pytest.fail("it was parsed"))
        answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, 400)["limit"].endswith(" values")


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP"])
def test_a_compressed_body_is_not_read(client: TestClient, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    body = problem(client.post(URL, content=gzip.compress(b'{"image": ""}'), headers=headers), 415)
    assert coding.lower() in body["detail"]
    assert "uncompressed" in body["remedy"]


def test_a_part_in_a_transfer_encoding_is_not_read(client: TestClient) -> None:
    def post(encoding: str) -> Any:
        head = f'--b\r\nContent-Disposition: form-data; name="image"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
        return client.post(URL, content=head.encode() + JPEG + b"\r\n--b--\r\n", headers=FORM)

    assert "base64" in problem(post("base64"), 415)["detail"]
    assert post("Binary").status_code == 200


def test_options_in_the_address_are_not_dropped_silently(client: TestClient) -> None:
    body = problem(client.post(f"{URL}?beam_size=1", files={"image": JPEG}), 422)
    assert body["field"] == "beam_size"


def test_half_a_surrogate_pair_is_told_as_a_question_mark(client: TestClient) -> None:
    answer = client.post(URL, content=b'{"\\ud800": 1}', headers={"Content-Type": "application/json"})
    assert "'?'" in problem(answer, 422)["detail"]


@pytest.mark.parametrize("temperature", ["1e-39", "1e-320", "0.0005"])
def test_the_coldest_temperatures_are_taken_for_zero(client: TestClient, temperature: str) -> None:
    answers = [
        client.post(URL, files={"image": JPEG}, data={"temperature": value, "num_captions": "2"})
        for value in (temperature, "0")
    ]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_body_has_no_more_bytes_than_its_parts_may_have(open_client: Open) -> None:
    small = open_client(limits={"image_bytes": 500, "video_bytes": 500})
    body = problem(small.post(URL, content=b"x" * 1_000_000, headers=FORM), 413)
    assert int(body["limit"].split()[0]) < 1_000_000


def test_a_part_over_its_limit(open_client: Open) -> None:
    small = open_client(limits={"image_bytes": 500})
    for answer in (
        small.post(URL, files={"image": JPEG}),
        small.post(URL, json={"image": base64.b64encode(JPEG).decode()}),
    ):
        body = problem(answer, 413)
        assert (body["modality"], body["limit"]) == ("image", "500 bytes")


def test_other_routes_and_methods(client: TestClient) -> None:
    for answer, status in ((client.get("/v1/nothing"), 404), (client.get(URL), 405)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"beam_size": ' + "9" * 5000 + "}", "a number of too many digits"),
        ('{"beam_size": ' + "[" * 3000 + "]" * 3000 + "}", "nested too deeply"),
        ("{", "not JSON"),
    ],
    ids=["digits", "nesting", "cut"],
)
def test_json_that_python_does_not_read_is_told_in_the_services_own_words(
    client: TestClient, body: str, said: str
) -> None:
    answer = client.post(URL, content=body, headers={"Content-Type": "application/json"})
    found = problem(answer, 400)
    assert said in found["detail"]
    assert "sys." not in found["detail"]
