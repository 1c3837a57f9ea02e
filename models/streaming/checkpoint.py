"""Which checkpoints follow a stream, and how."""

from typing import TYPE_CHECKING, TypeAlias

from models.config import CheckpointConfig
from models.features.audio import AudioFeatures
from models.network import FusionRNN
from models.streaming.detection import Detection
from models.streaming.errors import CannotStream
from models.streaming.recurrent import RecurrentStreams, sound_front

if TYPE_CHECKING:
    from models.pipeline import Pipeline


Streams: TypeAlias = RecurrentStreams


def streams_of(pipeline: "Pipeline") -> RecurrentStreams:
    """What follows streams with this checkpoint.

    Raises:
        CannotStream: with the reason.
    """
    if (reason := refusal(pipeline.config, pipeline.network)) is not None:
        raise CannotStream(reason)
    config, network = pipeline.config, pipeline.network
    fronts = {}
    for name, item in config.modalities.items():
        assert isinstance(item.features, AudioFeatures)
        fronts[str(name)] = sound_front(item.features, network.encoders[name])
    (modality,) = fronts
    assert config.labels is not None
    heat = float(config.defaults.get("temperature", 1.0))
    reading = Detection(network, modality, config.labels, heat, fronts[modality].tick)
    required = [name for name, item in config.modalities.items() if item.required]
    return RecurrentStreams(network, fronts, reading, required)


def refusal(config: CheckpointConfig, network: FusionRNN) -> str | None:
    """Why the checkpoint cannot follow a stream; None if it can."""
    if config.task not in ("classification", "transcription"):
        return f"a checkpoint for {config.task} answers about a whole input, so it cannot stream"
    if (reason := network.streaming_refusal()) is not None:
        return reason
    for name, item in config.modalities.items():
        if not isinstance(item.features, AudioFeatures):
            return f"the features '{item.features.type}' of {name} cannot be made chunk by chunk, so it cannot stream"
    if config.task == "classification" and len(config.modalities) > 1:
        return "it answers once for all modalities together, so it cannot stream"
    return None
