"""Fusions: importing this package registers them."""

from models.fusion.concat import ConcatConfig, ConcatFusion

__all__ = ["ConcatConfig", "ConcatFusion"]
