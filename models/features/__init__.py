"""Features: importing this package registers them."""

from models.features.features import FEATURES, Extracted, Features, Modality
from models.features.image import ImageFeatures

__all__ = ["FEATURES", "Extracted", "Features", "ImageFeatures", "Modality"]
