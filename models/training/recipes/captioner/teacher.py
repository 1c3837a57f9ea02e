"""What a network that has learned says of photos as they are, for it to say of the same photos spoilt.

A network that is taught by an equal one, beside the truth, comes out better than that (born-again networks: Furlanello
et al. 2018): of each word it also hears which others would have done. Several that err differently know more of that
than one (Hinton et al. 2015).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.encoded import Encoded
from models.encoders.image import PhotoEncoder
from models.heads.captioning import CaptioningHead
from models.network import FusionRNN
from models.training.captions import teach
from models.training.progress import progress
from models.training.recipes.captioner.data import CUT, LANGUAGES, CaptionData
from models.training.recipes.captioner.views import WHOLE

_BATCH = 50


class CaptionTeacher:
    """Networks that stay as they are; what they see of the training photos, whole and mirrored, is computed once."""

    def __init__(self, networks: Sequence[FusionRNN], data: CaptionData) -> None:
        self.networks, self.tokenizer = [network.eval() for network in networks], data.tokenizer
        self._maps = [_maps(_encoder(network), data) for network in networks]
        """Of each network float16 [N, WHOLE, C, h, w]."""

    @torch.no_grad()
    def says(self, photos: Tensor, language: str, captions: Tensor) -> Tensor:
        """Probabilities of the words asked of captions [B, K, T] of photos (int64 [B]), as ``teach`` orders them.

        They are [M, V_L], the mean over the networks and the two ways in which each photo is seen.
        """
        row, start, pad = LANGUAGES.index(language), self.tokenizer.start(language), self.tokenizer.pad
        said = []
        for network, maps in zip(self.networks, self._maps, strict=True):
            head = network.head
            assert isinstance(head, CaptioningHead)
            for view in range(WHOLE):
                seen = _seen(network, maps[photos, view])
                said.append(teach(head, seen, row, start, captions, pad=pad).logits.softmax(1))
        return torch.stack(said).mean(0)


def _encoder(network: FusionRNN) -> PhotoEncoder:
    encoder = network.encoders["image"]
    assert isinstance(encoder, PhotoEncoder)
    return encoder


def _seen(network: FusionRNN, maps: Tensor) -> Encoded:
    ones = torch.ones(len(maps), dtype=torch.int64)
    return network.fuse({"image": _encoder(network).regions(maps.float(), ones, 1)})


@torch.no_grad()
def _maps(encoder: PhotoEncoder, data: CaptionData) -> Tensor:
    lower = data.lower["train"]
    batches = torch.split(torch.arange(len(lower)), _BATCH)
    maps = []
    with progress("what the teacher sees", total=len(batches)) as advance:
        for photos in batches:
            views = torch.from_numpy(lower[photos.numpy(), :WHOLE])
            seen = encoder.cnn.upper(views.flatten(0, 1).float(), CUT).half()
            maps.append(seen.view(*views.shape[:2], *seen.shape[1:]))
            advance()
    return torch.cat(maps)
