"""The command line, in a process of its own where that is the point."""

import base64
import json
import re
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from torch import Tensor
from typer.testing import CliRunner

from app.cli import app
from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.encoders.image import RegionEncoder
from models.network import FusionRNN
from models.sequence import SequenceOutput
from tests.app.conftest import running_server
from tests.models.tasks.checkpoints import checkpoint, described
from tests.support import encoded_photo, tiny_captioner, tiny_tokenizer

COMMAND = [sys.executable, "-c", "from app.cli import main; main()"]


@pytest.fixture
def photo_file(tmp_path: Path) -> Path:
    """A photo on disk."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded_photo())
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and complaints of a command."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_predict_with_and_without_a_server(zoo: Path, photo_file: Path) -> None:
    asked = ("predict", "captioner", "--image", photo_file, "--option", "language=zh", "-o", "num_captions=2")
    code, here, _ = run(*asked, "--model-dir", zoo, "--device", "cpu")
    assert code == 0
    with running_server(zoo) as (address, _):
        code, there, _ = run(*asked, "--url", f"http://{address}/")
    assert code == 0
    alone, served = json.loads(here), json.loads(there)
    assert len(alone["captions"]) == 2
    assert [caption["text"] for caption in served["captions"]] == [caption["text"] for caption in alone["captions"]]
    assert alone.keys() == served.keys() - {"id"}


def test_a_text_of_vectors_is_given_by_the_name_of_their_file(tmp_path: Path) -> None:
    config = CheckpointConfig.model_validate(
        {
            "name": "talk",
            "version": "0.0.1",
            "task": "regression",
            "description": "Random weights, for tests.",
            "modalities": {"text": {"features": {"type": "vectors", "size": 3}}},
            "network": {
                "encoders": {"text": {"type": "vectors-mean", "size": 3, "width": 4}},
                "fusion": {"type": "concat", "width": 4},
                "head": {"type": "regression"},
            },
        }
    )
    save_checkpoint(tmp_path / "zoo" / "talk", config, FusionRNN(config.network))
    np.save(tmp_path / "talk.npy", np.ones((2, 3), np.float32))
    asked = ("predict", "talk", "--text", tmp_path / "talk.npy")
    code, here, _ = run(*asked, "--model-dir", tmp_path / "zoo", "--device", "cpu")
    assert code == 0
    with running_server(tmp_path / "zoo") as (address, _):
        code, there, _ = run(*asked, "--url", f"http://{address}")
    assert code == 0
    assert json.loads(there)["value"] == pytest.approx(json.loads(here)["value"])
    code, _, complaint = run("predict", "talk", "--text", "words", "--model-dir", tmp_path / "zoo")
    assert (code, "give the name of their .npy file" in complaint) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("captioner",), "Nothing to predict from"),
        (("poet", "--image", "PHOTO"), "no checkpoint 'poet'"),
        (("RUN", "--image", "PHOTO"), "captioner, which has one"),
        (("captioner", "--image", "PHOTO", "-o", "beam_size=99"), "less than or equal to 10"),
        (("captioner", "--image", "PHOTO", "-o", "beams=3"), "There are image, video, language"),
        (("captioner", "--image", "PHOTO", "-o", "beams"), "not name=value"),
        (("captioner", "--text", "words"), "No text is taken"),
        (("captioner", "--video", "PHOTO"), "video"),
        (("captioner", "--image", "PHOTO", "--url", "http://127.0.0.1:9"), "does not answer"),
    ],
)
def test_predict_says_what_is_wrong(zoo: Path, photo_file: Path, arguments: tuple[str, ...], said: str) -> None:
    given = [{"PHOTO": str(photo_file), "RUN": str(zoo)}.get(argument, argument) for argument in arguments]
    code, _, complaint = run("predict", *given, "--model-dir", zoo, "--device", "cpu")
    assert code == 1
    assert said in complaint


def test_a_checkpoint_that_explains_nothing_says_so_here_and_over_http(tmp_path: Path) -> None:
    config = described("classification", {"type": "classification", "classes": 3}, "text", labels=["a", "b", "c"])
    save_checkpoint(tmp_path / "classifier", config, checkpoint(config).network, tiny_tokenizer())
    asked = ("predict", config.name, "--text", "a dog", "--explain")
    here = run(*asked, "--model-dir", tmp_path, "--device", "cpu")
    with running_server(tmp_path) as (address, _):
        there = run(*asked, "--url", f"http://{address}")
    assert here == there
    assert here[0] == 1
    assert "explains nothing" in here[2]


def test_a_servers_problem_is_shown(zoo: Path, photo_file: Path) -> None:
    with running_server(zoo) as (address, _):
        code, _, complaint = run("predict", "poet", "--image", photo_file, "--url", f"http://{address}")
    assert (code, "These are served: captioner" in complaint) == (1, True)


def test_a_name_and_a_password_in_the_address_are_shown_to_the_proxy(photo_file: Path) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"who": self.headers["Authorization"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        Thread(target=proxy.serve_forever).start()
        url = f"http://me:p%40ss@127.0.0.1:{proxy.server_port}"
        code, shown, _ = run("predict", "captioner", "--image", photo_file, "--url", url)
        proxy.shutdown()
    assert (code, json.loads(shown)["who"]) == (0, "Basic " + base64.b64encode(b"me:p@ss").decode())


def test_verify(zoo: Path, tmp_path: Path) -> None:
    code, shown, _ = run("models", "verify", zoo / "captioner")
    assert code == 0
    assert re.search(
        r"name +captioner\nversion +0\.0\.1\ntask +captioning\nparameters +[\d,]+\ndigest +[0-9a-f]{64}", shown
    )
    broken = tiny_captioner(tmp_path / "broken")
    (broken / "config.json").write_text("{}")
    code, _, complaint = run("models", "verify", broken)
    assert code == 1
    assert "config.json" in complaint


@pytest.mark.parametrize(
    "arguments",
    [
        ("models", "verify", "CHECKPOINT"),
        ("predict", "captioner", "--image", "PHOTO", "--model-dir", "ZOO"),
        ("listen", "PHOTO", "--model", "captioner", "--model-dir", "ZOO"),
    ],
)
def test_plugins_come_before_a_checkpoint_is_loaded(
    zoo: Path, photo_file: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    places = {"CHECKPOINT": zoo / "captioner", "PHOTO": photo_file, "ZOO": zoo}
    plugin = photo_file.with_name("parts_of_mine.py")
    plugin.write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(photo_file.parent)
    for name, said in (("parts_of_mine", "RuntimeError('imported')"), ("no_such_parts", "ModuleNotFoundError")):
        monkeypatch.setenv("FUSIONRNN_PLUGINS", name)
        code, _, complaint = run(*(places.get(argument, argument) for argument in arguments))
        assert code == 1
        assert complaint.startswith(f"FUSIONRNN_PLUGINS: {name} cannot be imported: {said}")
        assert complaint.count("\n") == 1


def test_a_network_that_fails_or_hears_its_batch_mates_is_told_in_one_line(
    zoo: Path, photo_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = RegionEncoder.forward

    def with_padding(self: RegionEncoder, x: Tensor, lengths: Tensor, state: Any = None) -> SequenceOutput:
        output = forward(self, x, lengths, state)
        return SequenceOutput(output.sequence, output.lengths, output.pooled + x.shape[1])

    monkeypatch.setattr(RegionEncoder, "forward", with_padding)
    code, _, complaint = run("models", "verify", zoo / "captioner")
    assert code == 1
    assert "answers depend on what else is in a batch" in complaint
    assert "what the encoder of image pools changes by" in complaint

    def failing(self: RegionEncoder, *_: Any) -> SequenceOutput:
        raise KeyError("a weight")

    monkeypatch.setattr(RegionEncoder, "forward", failing)
    for command in (["models", "verify", zoo / "captioner"], ["predict", zoo / "captioner", "--image", photo_file]):
        code, _, complaint = run(*command)
        assert (code, "KeyError('a weight')" in complaint, complaint.count("\n")) == (1, True, 1)


def test_list(zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    code, shown, _ = run("models", "list", "--model-dir", zoo, "--model-dir", tmp_path)
    assert code == 0
    assert "captioner  0.0.1  captioning" in shown
    assert "odd: not a checkpoint" in shown


def test_serve_says_where_it_is_and_stops_on_sigterm(zoo: Path) -> None:
    arguments = ["serve", "--port", "0", "--model-dir", str(zoo), "--device", "cpu"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        first = server.stdout.readline()
        server.send_signal(signal.SIGTERM)
        _, logged = server.communicate(timeout=30)
    assert re.search(r"Serving captioner\. .* http://127\.0\.0\.1:\d+/docs", first)
    lines = [json.loads(line) for line in logged.splitlines()]
    assert {"model ready", "loaded"} <= {line["event"] for line in lines}
    assert server.returncode in (0, -signal.SIGTERM)


def test_help_imports_nothing_heavy() -> None:
    script = "import sys, app.cli; print(sorted({'torch', 'uvicorn', 'fastapi', 'numpy'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "[]"
