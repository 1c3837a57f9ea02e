"""Which checkpoints follow a stream, and what makes their features of media that come piece by piece."""

from torch import nn

from models.config import CheckpointConfig
from models.features import Features
from models.features.audio import AudioFeatures
from models.features.image import ImageFeatures
from models.features.mouth import MouthFeatures
from models.network import FusionRNN
from models.registry import stride_of
from models.streaming.lips import LipsFront
from models.streaming.recurrent import Front
from models.streaming.sound import SoundFront


def front_of(features: Features, encoder: nn.Module) -> Front:
    """What makes an encoder's features chunk by chunk, where ``refusal`` has nothing against them."""
    if isinstance(features, MouthFeatures):
        return LipsFront(features)
    assert isinstance(features, AudioFeatures)
    return SoundFront(features, stride_of(encoder))


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
        ticks.add(round(front_of(features, network.encoders[name]).tick, 9))
    if len(ticks) > 1:
        return "its modalities' steps are of unequal lengths, so it cannot stream"
    if config.task == "classification" and len(config.modalities) > 1:
        return "it answers once for all modalities together, so it cannot stream"
    if config.task == "classification" and config.network.fusion.stepwise:
        # Read from a moment on, or from the beginning on, it goes on answering with the first word that it has heard.
        return (
            f"its fusion '{config.network.fusion.type}' remembers all that came, so what it answers is not about the "
            "moment, as finding words asks, and it cannot stream"
        )
    return None
