"""The networks, and everything that turns media into tensors.

What a program needs to use a checkpoint stands here, and is imported when it is asked for:

>>> from models import Pipeline
>>> captioner = Pipeline.load("models/zoo/captioner")
>>> len(captioner.answer({"image": photo}, num_captions=3).captions)
3
"""

import os
from typing import TYPE_CHECKING

# NumPy's OpenBLAS would start a team of threads for the smallest product, whichever thread asks, and where the cores
# have something else to do its members wait for one another: a minute of sound in a stream met its limit of 20 s
# instead of taking 0.6. It reads this once, when NumPy is first imported. Networks run on torch's own threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__all__ = ["CheckpointError", "MediaError", "MediaLimits", "Pipeline", "load_checkpoint", "save_checkpoint"]

if TYPE_CHECKING:
    from models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
    from models.media import MediaError, MediaLimits
    from models.pipeline import Pipeline
else:
    from importlib import import_module

    _PLACES = {
        "CheckpointError": "models.checkpoint",
        "MediaError": "models.media",
        "MediaLimits": "models.media",
        "Pipeline": "models.pipeline",
        "load_checkpoint": "models.checkpoint",
        "save_checkpoint": "models.checkpoint",
    }

    def __getattr__(name: str) -> object:
        """Imports torch and the networks for whoever asks for them: ``import models`` takes no time."""
        if name not in _PLACES:
            raise AttributeError(f"module 'models' has no attribute '{name}'")
        return getattr(import_module(_PLACES[name]), name)
