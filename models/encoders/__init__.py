"""Encoders: importing this package registers them."""

from models.encoders.audio import AudioRNN, AudioRNNConfig
from models.encoders.image import (
    EfficientNetConfig,
    MobileNetConfig,
    PhotoEncoder,
    SmallImageConfig,
    SmallImageEncoder,
)
from models.encoders.lips import LipsRNN, LipsRNNConfig
from models.encoders.spectrogram import SpectrogramRNN, SpectrogramRNNConfig
from models.encoders.text import TextBag, TextBagConfig, TextRNN, TextRNNConfig
from models.encoders.vectors import VectorsMean, VectorsMeanConfig, VectorsRNN, VectorsRNNConfig
from models.encoders.video import VideoMean, VideoMeanConfig, VideoRNN, VideoRNNConfig

__all__ = [
    "AudioRNN",
    "AudioRNNConfig",
    "EfficientNetConfig",
    "LipsRNN",
    "LipsRNNConfig",
    "MobileNetConfig",
    "PhotoEncoder",
    "SmallImageConfig",
    "SmallImageEncoder",
    "SpectrogramRNN",
    "SpectrogramRNNConfig",
    "TextBag",
    "TextBagConfig",
    "TextRNN",
    "TextRNNConfig",
    "VectorsMean",
    "VectorsMeanConfig",
    "VectorsRNN",
    "VectorsRNNConfig",
    "VideoMean",
    "VideoMeanConfig",
    "VideoRNN",
    "VideoRNNConfig",
]
