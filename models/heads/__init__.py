"""Heads: importing this package registers them."""

from models.heads.captioning import CaptioningConfig, CaptioningHead
from models.heads.classification import ClassificationConfig, ClassificationHead
from models.heads.decision import DecisionConfig, DecisionHead
from models.heads.embedding import EmbeddingConfig, EmbeddingHead, Embeddings
from models.heads.language_model import LanguageModelConfig, LanguageModelHead
from models.heads.regression import RegressionConfig, RegressionHead
from models.heads.transcription import TranscriptionConfig, TranscriptionHead

__all__ = [
    "CaptioningConfig",
    "CaptioningHead",
    "ClassificationConfig",
    "ClassificationHead",
    "DecisionConfig",
    "DecisionHead",
    "EmbeddingConfig",
    "EmbeddingHead",
    "Embeddings",
    "LanguageModelConfig",
    "LanguageModelHead",
    "RegressionConfig",
    "RegressionHead",
    "TranscriptionConfig",
    "TranscriptionHead",
]
