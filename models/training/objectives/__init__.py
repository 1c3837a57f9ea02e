"""What training descends: one module an objective, each a function or class that knows nothing of data or trainers."""

from models.training.objectives.auxiliary import AuxiliaryHeads
from models.training.objectives.classes import class_cross_entropy
from models.training.objectives.contrastive import info_nce, max_violation, over_pairs
from models.training.objectives.ctc import ctc_loss, steps_needed
from models.training.objectives.language_model import next_token_cross_entropy
from models.training.objectives.modulation import GradientModulation, unimodal_scores
from models.training.objectives.numbers import regression_loss

__all__ = [
    "AuxiliaryHeads",
    "GradientModulation",
    "class_cross_entropy",
    "ctc_loss",
    "info_nce",
    "max_violation",
    "next_token_cross_entropy",
    "over_pairs",
    "regression_loss",
    "steps_needed",
    "unimodal_scores",
]
