"""Several sentences in one stream: each is heard as if there had been none before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.features import Extracted
from models.features.audio import AudioFeatures
from models.pipeline import Pipeline
from models.readings.reading import Event
from models.readings.transcription import Transcription
from models.state import part
from models.streaming.checkpoint import recurrent_streams
from models.streaming.recurrent import RecurrentStreams
from models.tasks.task import Query
from tests.models.streaming.live import save_live
from tests.models.streaming.sounds import RATE, babble
from tests.models.streaming.test_transcription import TICK, WORDS, run

GAP = np.zeros(2 * RATE, np.float32)
SPEECH = np.concatenate([value for seed in (2, 4, 5) for value in (babble(1.5, seed), GAP)])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.load(save_live(Path(tmp_path_factory.mktemp("zoo")) / "live", blank=6))


def sentences(streams: RecurrentStreams, size: int) -> list[Event]:
    events = run(streams, streams.open(streams.options(), ["audio"]), {"audio": SPEECH}, {"audio": [size]})
    return [event for event in events if event["type"] == "final" and event["words"]]


@pytest.mark.parametrize("size", [32 * TICK, 7 * TICK, 1000], ids=["many at once", "some", "uneven"])
def test_where_chunks_end_does_not_matter_to_the_next_sentence(pipeline: Pipeline, size: int) -> None:
    wanted = sentences(recurrent_streams(pipeline), TICK)
    found = sentences(recurrent_streams(pipeline), size)
    assert [event["endpoint"] for event in wanted].count("silence") >= 2
    assert [event["text"] for event in found] == [event["text"] for event in wanted]
    assert [(event["start"], event["end"]) for event in found] == [(event["start"], event["end"]) for event in wanted]
    for some, others in zip(found, wanted, strict=True):
        assert [word["start"] for word in some["words"]] == [word["start"] for word in others["words"]]


def test_the_network_knows_nothing_of_a_sentence_that_silence_ended(pipeline: Pipeline) -> None:
    streams = recurrent_streams(pipeline)
    track = streams.open(streams.options(), ["audio"])
    fresh = pipeline.network.initial_state(1, streams.device)
    ended = 0
    for at in range(0, len(SPEECH), TICK):
        track.feed("audio", SPEECH[at : at + TICK])
        events = streams.step([track.take()])[0]
        state = part(streams.read(track)[0], "network")
        if any(event["type"] == "final" for event in events):
            ended += 1
            assert all(torch.equal(value, fresh[name]) for name, value in state.items())
        else:
            assert not all(torch.equal(value, fresh[name]) for name, value in state.items())
    assert ended >= 2


def test_a_whole_recording_gives_the_words_of_all_its_sentences(pipeline: Pipeline) -> None:
    wanted = [word for event in sentences(recurrent_streams(pipeline), TICK) for word in event["words"]]
    features = pipeline.config.modalities["audio"].features
    assert isinstance(features, AudioFeatures)
    long, short = (features.scaled(features.log_mel()(sound)) for sound in (SPEECH, SPEECH[: 2 * RATE]))
    options = pipeline.options()
    queries = [Query(Extracted({"audio": frames}), options) for frames in (short, long)]
    few, all_words = (result.words for result in pipeline.predict_batch(queries))  # type: ignore[attr-defined]
    assert 0 < len(few) < len(all_words)
    assert [(word.word, word.start, word.end) for word in all_words] == [
        (word["word"], word["start"], word["end"]) for word in wanted
    ]
    assert [word.probability for word in all_words] == [pytest.approx(word["probability"], abs=1e-3) for word in wanted]


@pytest.mark.parametrize(("words", "silence"), [(WORDS[0][:1], 0.8), ([place[1] for place in WORDS], 0.4)])
def test_a_sentence_to_which_no_word_can_be_added_is_over_sooner(
    pipeline: Pipeline, words: list[str], silence: float
) -> None:
    reading: Any = recurrent_streams(pipeline).reading
    blank = reading.head.config.blank
    said = [token for word in words for token in (*reading.tokenizer.encode(word), blank)]
    steps = torch.full((40, reading.head.config.vocabulary), -12.0)
    steps[torch.arange(40), torch.tensor(said + [blank] * (40 - len(said)))] = 0.0
    told = reading.tell(reading.listener(reading.options()), steps.log_softmax(1).double().numpy(), 0, 0.0)
    assert told.over
    assert told.events[-1]["text"].startswith(" ".join(words))
    assert told.steps == len(said) - 1 + round(silence / reading.tick)


def test_words_are_timed_when_they_were_said_and_not_when_they_were_written(pipeline: Pipeline) -> None:
    def starts(delay: float) -> list[float]:
        streams = recurrent_streams(pipeline)
        reading: Any = streams.reading
        assert isinstance(reading, Transcription)
        reading.delay = delay
        return [word["start"] for event in sentences(streams, TICK) for word in event["words"]]

    assert starts(0.2) == [pytest.approx(max(start - 0.2, 0.0)) for start in starts(0.0)]
