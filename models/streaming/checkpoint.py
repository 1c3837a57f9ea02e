"""Which checkpoints follow a stream, and how."""

from typing import TYPE_CHECKING, TypeAlias

from torch import nn

from models.config import CheckpointConfig
from models.features import Features
from models.features.audio import AudioFeatures
from models.features.image import ImageFeatures
from models.features.mouth import MouthFeatures
from models.network import FusionRNN
from models.readings.detection import Detection
from models.readings.reading import Reading
from models.readings.transcription import Transcription, stream_options
from models.streaming.captions import CaptionStreams
from models.streaming.errors import CannotStream
from models.streaming.lips import LipsFront
from models.streaming.recurrent import Front, RecurrentStreams
from models.streaming.sound import SoundFront
from models.tasks.transcription import TranscriptionTask

if TYPE_CHECKING:
    from models.pipeline import Pipeline


Streams: TypeAlias = RecurrentStreams | CaptionStreams


def streams_of(pipeline: "Pipeline") -> Streams:
    """What follows streams with this checkpoint.

    Raises:
        CannotStream: with the reason.
    """
    if (reason := refusal(pipeline.config, pipeline.network)) is not None:
        raise CannotStream(reason)
    if pipeline.config.task == "captioning":
        return CaptionStreams(pipeline)
    return recurrent_streams(pipeline)


def recurrent_streams(pipeline: "Pipeline") -> RecurrentStreams:
    """What follows streams step by step, for a checkpoint that is known to."""
    config, network = pipeline.config, pipeline.network
    fronts = {str(name): _front(item.features, network.encoders[name]) for name, item in config.modalities.items()}
    tick = next(iter(fronts.values())).tick
    required = [name for name, item in config.modalities.items() if item.required]
    return RecurrentStreams(network, fronts, _reading(pipeline, tick), required)


def _front(features: Features, encoder: nn.Module) -> Front:
    if isinstance(features, MouthFeatures):
        return LipsFront(features)
    assert isinstance(features, AudioFeatures)
    return SoundFront(features, int(getattr(encoder, "stride", 1)))


def _reading(pipeline: "Pipeline", tick: float) -> Reading:
    config, network, task = pipeline.config, pipeline.network, pipeline.task
    if isinstance(task, TranscriptionTask):
        options = stream_options(config.defaults)
        return Transcription(task.head, task.tokenizer, task.grammar, tick, task.delay, options)
    (modality,) = config.modalities
    assert config.labels is not None
    return Detection(network, modality, config.labels, float(config.defaults.get("temperature", 1.0)), tick)


def refusal(config: CheckpointConfig, network: FusionRNN) -> str | None:
    """Why the checkpoint cannot follow a stream; None if it can."""
    if config.task == "captioning":
        pictures = all(isinstance(item.features, ImageFeatures) for item in config.modalities.values())
        return None if pictures else "only captions of pictures can follow a stream of them"
    if config.task not in ("classification", "transcription"):
        return f"a checkpoint for {config.task} answers about a whole input, so it cannot stream"
    if (reason := network.streaming_refusal()) is not None:
        return reason
    ticks = set()
    for name, item in config.modalities.items():
        features = item.features
        live = isinstance(features, AudioFeatures) or (isinstance(features, MouthFeatures) and features.causal)
        if not live:
            return f"the features '{features.type}' of {name} cannot be made chunk by chunk, so it cannot stream"
        ticks.add(round(_front(features, network.encoders[name]).tick, 9))
    if len(ticks) > 1:
        return "its modalities' steps are of unequal lengths, so it cannot stream"
    if config.task == "classification" and len(config.modalities) > 1:
        return "it answers once for all modalities together, so it cannot stream"
    if config.task == "classification" and getattr(config.network.fusion, "stepwise", False):
        # Read from a moment on, or from the beginning on, it goes on answering with the first word that it has heard.
        return (
            f"its fusion '{config.network.fusion.type}' remembers all that came, so what it answers is not about the "
            "moment, as finding words asks, and it cannot stream"
        )
    return None
