"""Heads: importing this package registers them."""

from models.heads.captioning import CaptioningConfig, CaptioningHead
from models.heads.classification import ClassificationConfig, ClassificationHead

__all__ = ["CaptioningConfig", "CaptioningHead", "ClassificationConfig", "ClassificationHead"]
