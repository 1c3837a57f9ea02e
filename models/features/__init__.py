"""Features: importing this package registers them."""

from models.features.audio import AudioFeatures
from models.features.features import FEATURES, Extracted, Features, Modality
from models.features.frames import VideoFeatures
from models.features.image import ImageFeatures
from models.features.ink import InkFeatures
from models.features.mouth import MouthFeatures
from models.features.tokens import TextFeatures
from models.features.vectors import VectorFeatures

__all__ = [
    "FEATURES",
    "AudioFeatures",
    "Extracted",
    "Features",
    "ImageFeatures",
    "InkFeatures",
    "Modality",
    "MouthFeatures",
    "TextFeatures",
    "VectorFeatures",
    "VideoFeatures",
]
