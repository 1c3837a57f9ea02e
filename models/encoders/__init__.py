"""Encoders: importing this package registers them."""

from models.encoders.image import MobileNetConfig, MobileNetEncoder

__all__ = ["MobileNetConfig", "MobileNetEncoder"]
