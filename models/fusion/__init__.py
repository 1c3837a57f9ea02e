"""Fusions: importing this package registers them."""

from models.fusion.concat import ConcatConfig, ConcatFusion
from models.fusion.contextual import ContextualConfig, ContextualFusion
from models.fusion.cross_modal import CrossModalAttentionFusion, CrossModalConfig
from models.fusion.decision import DecisionConfig, DecisionFusion
from models.fusion.memory import MemoryConfig, MemoryFusion
from models.fusion.recurrent import RecurrentConfig, RecurrentFusion
from models.fusion.tensor import TensorConfig, TensorFusion
from models.fusion.weighted_sum import WeightedSumConfig, WeightedSumFusion

__all__ = [
    "ConcatConfig",
    "ConcatFusion",
    "ContextualConfig",
    "ContextualFusion",
    "CrossModalAttentionFusion",
    "CrossModalConfig",
    "DecisionConfig",
    "DecisionFusion",
    "MemoryConfig",
    "MemoryFusion",
    "RecurrentConfig",
    "RecurrentFusion",
    "TensorConfig",
    "TensorFusion",
    "WeightedSumConfig",
    "WeightedSumFusion",
]
