"""What a network that has learned says of photos as they are, for it to say of the same photos spoilt.

A network that is taught by an equal one, beside the truth, comes out better than that (born-again networks: Furlanello
et al. 2018): of each word it also hears which others would have done.
"""

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
    """A network that stays as it is; what it sees of the training photos, whole and mirrored, is computed once."""

    def __init__(self, network: FusionRNN, data: CaptionData) -> None:
        encoder, head = network.encoders["image"], network.head
        assert isinstance(encoder, PhotoEncoder)
        assert isinstance(head, CaptioningHead)
        self.network, self.head, self.tokenizer = network.eval(), head, data.tokenizer
        self._maps = _maps(encoder, data)
        """float16 [N, WHOLE, C, h, w]"""

    @torch.no_grad()
    def says(self, photos: Tensor, language: str, captions: Tensor) -> Tensor:
        """Probabilities of the words asked of captions [B, K, T] of photos (int64 [B]), as ``teach`` orders them.

        They are [M, V_L], the mean over the two ways in which each photo is seen.
        """
        row, start = LANGUAGES.index(language), self.tokenizer.start(language)
        said = [
            teach(self.head, self._seen(photos, view), row, start, captions, pad=self.tokenizer.pad).logits.softmax(1)
            for view in range(WHOLE)
        ]
        return torch.stack(said).mean(0)

    def _seen(self, photos: Tensor, view: int) -> Encoded:
        encoder = self.network.encoders["image"]
        assert isinstance(encoder, PhotoEncoder)
        ones = torch.ones(len(photos), dtype=torch.int64)
        return self.network.fuse({"image": encoder.regions(self._maps[photos, view].float(), ones, 1)})


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
