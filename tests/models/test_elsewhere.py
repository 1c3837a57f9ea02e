"""Shipped checkpoints on a device that is not there: nothing that serves them meets a tensor left on the CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from models.decoding.decoder import SharedDecoder
from models.features import Extracted
from models.pipeline import Pipeline
from models.streaming.checkpoint import recurrent_streams
from models.tasks.streaming import StreamSearch
from models.tasks.task import Query
from tests.elsewhere import ELSEWHERE, MixedDevicesError, OnTheDevice, There
from tests.models.streaming.live import save_live
from tests.models.streaming.sounds import babble
from tests.models.streaming.test_transcription import TICK, run
from tests.models.test_cuda import ZOO, made


def test_the_device_refuses_what_cuda_refuses() -> None:
    with OnTheDevice():
        there, here = torch.ones(3, 2).to(ELSEWHERE), torch.ones(3, 2)
        lengths = torch.tensor([2]).to(ELSEWHERE)
        for mixed in (
            lambda: there + here,
            lambda: torch.cat([there, here]),
            lambda: here[there > 0],
            lambda: there.index_put((torch.tensor([0]),), here[:1]),
            lambda: torch.nn.functional.linear(there, here),
            lambda: torch.equal(there, here),
            lambda: pack_padded_sequence(there[None], lengths, batch_first=True),
        ):
            with pytest.raises(MixedDevicesError):
                mixed()
        with pytest.raises(RuntimeError):
            there.numpy()
        assert there.device == ELSEWHERE
        assert isinstance(there[torch.tensor([0, 2])] * 2 + torch.tensor(1.0), There)
        assert there.cpu().numpy().sum() == float(there.sum()) == 6


@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
def test_a_checkpoint_answers_there_what_it_answers_here(folder: Path) -> None:
    pipeline = Pipeline.load(folder, "cpu", "torch")
    features = made(pipeline)
    expected = everything(pipeline, features)
    with OnTheDevice():
        assert everything(Pipeline(pipeline.task.checkpoint, ELSEWHERE, "torch"), features) == expected


def everything(pipeline: Pipeline, features: Extracted) -> list[Any]:
    """Alone and explained, in a batch, told piece by piece, drawn at random, and with steps shared by two searches."""
    query = Query(features, pipeline.options())
    found = [
        pipeline.predict(features, query.options, explain=pipeline.explains),
        pipeline.predict_batch([query] * 2),
        list(pipeline.stream(features, query.options)),
    ]
    if (decoder := pipeline.decoder()) is None:
        return found
    torch.manual_seed(0)
    found.append(pipeline.predict(features, pipeline.options.model_validate({"temperature": 1.0})))
    return [*found, *together(decoder, pipeline.searches([query] * 2))]


@torch.inference_mode()
def together(decoder: SharedDecoder[Any], searches: Sequence[StreamSearch[Any]]) -> list[Any]:
    """The result of the first of some like searches, every step of which is one for all of them."""
    calls: list[Any] = [next(search) for search in searches]
    while True:
        answers = decoder.step_together(calls)
        try:
            calls = [search.send(answer) for search, answer in zip(searches, answers, strict=True)]
        except StopIteration as stop:
            return [stop.value]


def test_a_stream_is_heard_there_as_here(tmp_path: Path) -> None:
    pipeline = Pipeline.load(save_live(tmp_path / "live"), "cpu", "torch")

    def heard() -> object:
        streams = recurrent_streams(pipeline)
        track = streams.open(streams.options(), ["audio"])
        events = run(streams, track, {"audio": babble(2, 0)}, {"audio": [3 * TICK]})
        return events, [value.cpu().tolist() for value in streams.read(track)[0].values()]

    expected = heard()
    with OnTheDevice():
        pipeline.network.to(ELSEWHERE)
        pipeline.device = ELSEWHERE
        assert heard() == expected
