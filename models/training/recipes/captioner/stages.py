"""The stages of the ``captioner``: cross-entropy, and self-critical training on CIDEr-D."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.decoding.beam import beam_search
from models.decoding.sampling import sample
from models.encoded import Encoded
from models.encoders.image import PhotoEncoder
from models.features.text import join
from models.heads.captioning import CaptioningHead
from models.network import FusionRNN
from models.training.captions import Taught, caption_cross_entropy, self_critical, teach
from models.training.metrics.bleu import bleu, bleu_statistics
from models.training.metrics.cider import CiderD
from models.training.recipes.averages import mean_of
from models.training.recipes.captioner.data import CUT, LANGUAGES, LONGEST, CaptionData
from models.training.recipes.captioner.teacher import CaptionTeacher
from models.training.trainer import Schedule, Stage

SCALE = {"en": 0.54, "zh": 0.95}
"""CIDEr-D that is aimed at. Chinese figures are about twice the English ones: as shares of these both count alike."""


class _CaptionStage(Stage):
    """What the three stages share: the photos' regions, and validation by beam search."""

    def __init__(self, model: FusionRNN, data: CaptionData, schedule: Schedule, *, batch: int) -> None:
        self.model, self.data, self.schedule, self.batch = model, data, schedule, batch
        self.starts = {language: data.tokenizer.start(language) for language in LANGUAGES}
        val = data.words["val"]
        self.scorers = {language: CiderD([photo[language] for photo in val]) for language in LANGUAGES}

    @property
    def head(self) -> CaptioningHead:
        head = self.model.head
        assert isinstance(head, CaptioningHead)
        return head

    @property
    def encoder(self) -> PhotoEncoder:
        encoder = self.model.encoders["image"]
        assert isinstance(encoder, PhotoEncoder)
        return encoder

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        lower = self.data.lower["train"]
        order = torch.randperm(len(lower), generator=generator)
        views = torch.randint(lower.shape[1], (len(lower),), generator=generator)
        return list(torch.split(torch.stack([order, views], 1), self.batch))

    def encode(self, split: str, photos: Tensor, views: Tensor) -> Encoded:
        """Regions of photos (int64 [B]), each in one of its views."""
        lower = torch.from_numpy(self.data.lower[split][photos.numpy(), views.numpy()]).float()
        maps = self.encoder.cnn.upper(lower, CUT)
        ones = torch.ones(len(photos), dtype=torch.int64)
        return self.model.fuse({"image": self.encoder.regions(maps, ones, 1)})

    def teach(self, encoded: Encoded, language: str, captions: Tensor) -> Taught:
        """What the head says about captions [B, K, T] of the encoded photos."""
        row, start, pad = LANGUAGES.index(language), self.starts[language], self.data.tokenizer.pad
        return teach(self.head, encoded, row, start, captions, pad=pad)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        written = write_captions(self, "val", beam_size=3)
        figures: dict[str, float] = {}
        for language in LANGUAGES:
            photos = [photo[language] for photo in self.data.words["val"]]
            scorer = self.scorers[language]
            pairs = list(zip(written[language], photos, strict=True))
            cider = np.mean([scorer.score(words, scorer.prepare(refs)) for words, refs in pairs])
            figures[f"{language}_cider_d"] = float(cider)
            figures[f"{language}_bleu_4"] = bleu(np.sum([bleu_statistics(words, refs) for words, refs in pairs], 0))[3]
        figures["score"] = sum(figures[f"{language}_cider_d"] / SCALE[language] for language in LANGUAGES)
        return figures


def write_captions(stage: _CaptionStage, split: str, *, beam_size: int, batch: int = 50) -> dict[str, list[list[str]]]:
    """The best caption of every photo of a split, in words, for each language."""
    count = len(stage.data.lower[split])
    written: dict[str, list[list[str]]] = {language: [] for language in LANGUAGES}
    tokenizer = stage.data.tokenizer
    for photos in torch.split(torch.arange(count), batch):
        encoded = stage.encode(split, photos, torch.zeros_like(photos))
        state = stage.head.initial_state(encoded.fusion.fused, beam_size)
        for row, language in enumerate(LANGUAGES):
            memory = stage.head.remember(encoded, torch.full_like(photos, row))
            starts = torch.full_like(photos, stage.starts[language])
            found = beam_search(
                stage.head, memory, state, starts,
                end=tokenizer.end, beam_size=beam_size, max_length=LONGEST[language], length_penalty=0.7,
                no_repeat=3,
            )  # fmt: skip
            written[language] += [tokenizer.split(join(tokenizer.words(best[0].tokens))) for best in found]
    return written


class CrossEntropyStage(_CaptionStage):
    """Teacher forcing with label smoothing; ``cnn_rate`` above 0 trains the CNN's upper blocks as well.

    An epoch reads some ``captions`` of each photo in each language, drawn anew: reading is what its time goes to. With
    a ``teacher`` half of what is asked for is what it says of the photo as it is.
    """

    def __init__(
        self, name: str, model: FusionRNN, data: CaptionData, schedule: Schedule, *, rate: float, cnn_rate: float = 0,
        captions: int = 2, teacher: CaptionTeacher | None = None, batch: int = 32,
    ) -> None:  # fmt: skip
        super().__init__(model, data, schedule, batch=batch)
        self.name, self.rate, self.cnn_rate, self.captions, self.teacher = name, rate, cnn_rate, captions, teacher

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = [{"params": _without_cnn(self.model), "lr": self.rate}]
        if self.cnn_rate:
            upper = [*self.encoder.cnn.blocks[CUT:].parameters(), *self.encoder.cnn.head.parameters()]
            groups.append({"params": upper, "lr": self.cnn_rate})
        return groups

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        photos, views = batch.unbind(1)
        encoded = self.encode("train", photos, views)
        losses = {}
        for language in LANGUAGES:
            captions = some_of(self.data.tokens[language][photos], self.captions)
            taught = self.teach(encoded, language, captions)
            losses[language] = caption_cross_entropy(taught)
            if self.teacher is not None:
                said = F.cross_entropy(taught.logits, self.teacher.says(photos, language, captions))
                losses[language] = (losses[language] + said) / 2
        return torch.stack(list(losses.values())).mean(), {f"{k}_loss": float(v.detach()) for k, v in losses.items()}


class SelfCriticalStage(_CaptionStage):
    """REINFORCE on CIDEr-D, the end token counted as a word so that a caption must also stop well.

    What is validated, and in the end shipped, is the mean of these weights and those that the stage began with, which
    ``anchor`` holds (Wortsman et al. 2022, "Robust fine-tuning"). By themselves they write ever shorter captions.
    """

    name = "self-critical"

    def __init__(
        self,
        model: FusionRNN,
        data: CaptionData,
        schedule: Schedule,
        anchor: Path,
        *,
        rate: float,
        samples: int = 5,
        batch: int = 32,
    ) -> None:
        super().__init__(model, data, schedule, batch=batch)
        self.anchor, self.rate, self.samples = anchor, rate, samples
        self.references: dict[str, list[Any]] = {}
        self.rewards: dict[str, CiderD] = {}
        for language in LANGUAGES:
            ended = [[[*words, "<end>"] for words in photo[language]] for photo in data.words["train"]]
            self.rewards[language] = CiderD(ended)
            self.references[language] = [self.rewards[language].prepare(references) for references in ended]

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": _without_cnn(self.model), "lr": self.rate}]

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        photos, views = batch.unbind(1)
        # Without dropout: what is rewarded is the policy that wrote the captions.
        self.model.eval()
        encoded = self.encode("train", photos, views)
        losses, figures = [], {}
        for language in LANGUAGES:
            captions = self._draw(encoded, language, photos)
            words = [[self._ended(ids) for ids in group] for group in captions.tolist()]
            rewards = torch.tensor(
                [
                    [self.rewards[language].score(caption, self.references[language][photo]) for caption in group]
                    for photo, group in zip(photos.tolist(), words, strict=True)
                ]
            )
            losses.append(self_critical(self.teach(encoded, language, captions), rewards / SCALE[language]))
            figures[f"{language}_reward"] = float(rewards.mean())
            figures[f"{language}_words"] = float(np.mean([len(caption) for group in words for caption in group]))
        return torch.stack(losses).sum(), figures

    def validate(self) -> dict[str, float]:
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(mean_of(own, torch.load(self.anchor, weights_only=True)))
        try:
            return super().validate()
        finally:
            self.model.load_state_dict(own)

    @torch.no_grad()
    def _draw(self, encoded: Encoded, language: str, photos: Tensor) -> Tensor:
        """Sampled captions [B, K, T], ended and padded, from long to short."""
        end, pad = self.data.tokenizer.end, self.data.tokenizer.pad
        memory = self.head.remember(encoded, torch.full_like(photos, LANGUAGES.index(language)))
        state = self.head.initial_state(encoded.fusion.fused, self.samples)
        starts = torch.full_like(photos, self.starts[language])
        tokens = sample(self.head, memory, state, starts, end=end, max_length=LONGEST[language]).tokens
        after = (tokens == end).cumsum(2) > 1
        order = after.sum(2).argsort(1)
        return tokens.masked_fill(after, pad).gather(1, order.unsqueeze(2).expand_as(tokens))

    def _ended(self, ids: list[int]) -> list[str]:
        """The words of a sampled caption, its end counted as one."""
        end = self.data.tokenizer.end
        length = ids.index(end) if end in ids else len(ids)
        return [*self.data.tokenizer.words(ids[:length]), *(["<end>"] if length < len(ids) else [])]


def some_of(captions: Tensor, few: int) -> Tensor:
    """``few`` of each photo's captions [B, K, T], drawn anew and in their order."""
    rows, count, _ = captions.shape
    drawn = torch.rand(rows, count).argsort(1)[:, :few].sort(1).values
    return captions[torch.arange(rows).unsqueeze(1), drawn]


def _without_cnn(model: FusionRNN) -> list[torch.nn.Parameter]:
    encoder = model.encoders["image"]
    assert isinstance(encoder, PhotoEncoder)
    frozen = {id(parameter) for parameter in encoder.cnn.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in frozen]
