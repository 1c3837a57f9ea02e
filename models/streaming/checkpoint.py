"""What follows streams with a checkpoint."""

from typing import TypeAlias

from models.pipeline import Pipeline
from models.readings.detection import Detection
from models.readings.reading import Reading
from models.readings.transcription import Transcription, stream_options
from models.streaming.captions import CaptionStreams
from models.streaming.errors import CannotStream
from models.streaming.fronts import front_of
from models.streaming.recurrent import RecurrentStreams
from models.tasks.transcription import TranscriptionTask

Streams: TypeAlias = RecurrentStreams | CaptionStreams


def streams_of(pipeline: Pipeline) -> Streams:
    """What follows streams with this checkpoint.

    Raises:
        CannotStream: with the reason.
    """
    if pipeline.streaming_refusal is not None:
        raise CannotStream(pipeline.streaming_refusal)
    if pipeline.config.task == "captioning":
        return CaptionStreams(pipeline)
    return recurrent_streams(pipeline)


def recurrent_streams(pipeline: Pipeline) -> RecurrentStreams:
    """What follows streams step by step, for a checkpoint that is known to."""
    config, network = pipeline.config, pipeline.network
    fronts = {str(name): front_of(item.features, network.encoders[name]) for name, item in config.modalities.items()}
    tick = next(iter(fronts.values())).tick
    required = [name for name, item in config.modalities.items() if item.required]
    return RecurrentStreams(network, fronts, _reading(pipeline, tick), required)


def _reading(pipeline: Pipeline, tick: float) -> Reading:
    config, network, task = pipeline.config, pipeline.network, pipeline.task
    if isinstance(task, TranscriptionTask):
        options = stream_options(config.defaults)
        return Transcription(task.head, task.tokenizer, task.grammar, tick, task.delay, options)
    (modality,) = config.modalities
    assert config.labels is not None
    return Detection(network, modality, config.labels, float(config.defaults.get("temperature", 1.0)), tick)
