"""How the joint space is trained: like photos are right answers too, and either side may be missing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.encoders.image import PhotoEncoder
from models.heads import EmbeddingHead
from models.heads.embedding import FUSED
from models.network import FusionRNN
from models.sequence import SequenceOutput, pad
from models.training.metrics.retrieval import group_retrieval_figures
from models.training.recipes.captioner.data import CUT, LANGUAGES
from models.training.recipes.image_text_embedding.data import FROZEN_VIEWS, PairData
from models.training.recipes.image_text_embedding.teacher import Teacher, divergence, together
from models.training.trainer import Schedule, Stage, multiplies_bf16

SOFT = 0.5
"""Share of what is asked for that goes to like photos, and to the photo itself as one of them."""
HEAT = 0.2
"""How unlike they may be: differences of cosines count fivefold."""
TAUGHT = 0.75
"""Share of what is asked for that teachers say, where there are any."""
ABSENT_SHARE = 0.25
"""How often the fused vector has to do without the photo, and how often without the sentence."""


class PairStage(Stage):
    """InfoNCE between photos, sentences of both languages, and what both are together.

    ``trains`` says how much of the photos' side is trained beside its projection into the joint space: ``nothing``, so
    that each view's vector is computed once; the ``regions``' projection; or the ``cnn``'s upper blocks too, at
    ``cnn_rate``. With ``teachers``, most of what is asked for is what they say together.
    """

    def __init__(
        self, name: str, model: FusionRNN, data: PairData, schedule: Schedule, *, rate: float,
        trains: Literal["nothing", "regions", "cnn"], cnn_rate: float = 0, batch: int = 128,
        teachers: Sequence[Teacher] = (),
    ) -> None:  # fmt: skip
        self.name, self.model, self.data, self.schedule, self.teachers = name, model, data, schedule, teachers
        self.rate, self.trains, self.cnn_rate, self.batch = rate, trains, cnn_rate, batch
        self._pooled: dict[str, Tensor] = {}

    @property
    def encoder(self) -> PhotoEncoder:
        encoder = self.model.encoders["image"]
        assert isinstance(encoder, PhotoEncoder)
        return encoder

    @property
    def head(self) -> EmbeddingHead:
        assert isinstance(self.model.head, EmbeddingHead)
        return self.model.head

    def parameter_groups(self) -> list[dict[str, Any]]:
        part = self.encoder if self.trains == "nothing" else self.encoder.cnn
        left = {id(parameter) for parameter in part.parameters()}
        groups = [{"params": [p for p in self.model.parameters() if id(p) not in left], "lr": self.rate}]
        if self.trains == "cnn":
            upper = [*self.encoder.cnn.blocks[CUT:].parameters(), *self.encoder.cnn.head.parameters()]
            groups.append({"params": upper, "lr": self.cnn_rate})
        return groups

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """[B, 4]: photo, view, and which of its captions in each language."""
        views = (self.data.lower if self.trains == "cnn" else self.data.maps)["train"].shape[1]
        choices = (views, *(self.data.tokens[language].shape[1] for language in LANGUAGES))
        order = torch.randperm(self.data.photos, generator=generator)
        drawn = [torch.randint(most, (self.data.photos,), generator=generator) for most in choices]
        return [batch for batch in torch.split(torch.stack([order, *drawn], 1), self.batch) if len(batch) > 1]

    def images(self, split: str, photos: Tensor, views: Tensor) -> SequenceOutput:
        """Photos (int64 [B]), each in one of its views; without the regions where nothing of them is trained."""
        ones = torch.ones(len(photos), dtype=torch.int64)
        if self.trains == "nothing":
            pooled = self._vectors(split)[photos, views]
            return SequenceOutput(pooled.unsqueeze(1), ones, pooled)
        place = photos.numpy(), views.numpy()
        if self.trains == "cnn":
            maps = self.encoder.cnn.upper(torch.from_numpy(self.data.lower[split][place]).float(), CUT)
        else:
            maps = _maps(self.data.maps[split][place])
        return self.encoder.regions(maps, ones, 1)

    @torch.no_grad()
    def _vectors(self, split: str) -> Tensor:
        """The encoder's pooled vectors of all photos in all views [N, views, W]."""
        if split not in self._pooled:
            views = self.data.maps[split].shape[1]
            flat = self.data.maps[split].reshape(-1, *self.data.maps[split].shape[2:])
            rows = []
            for first in range(0, len(flat), 128):
                maps = _maps(flat[first : first + 128].copy())
                rows.append(self.encoder.regions(maps, torch.ones(len(maps), dtype=torch.int64), 1).pooled)
            self._pooled[split] = torch.cat(rows).float().reshape(-1, views, rows[0].shape[1])
        return self._pooled[split]

    def texts(self, tokens: Tensor, lengths: Tensor) -> SequenceOutput:
        """Sentences [B, T]."""
        output: SequenceOutput = self.model.encoders["text"](tokens[:, : int(lengths.max())], lengths)
        return output

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        photos, views, *columns = batch.unbind(1)
        image = self.images("train", photos, views)
        # Both languages in one batch: the recurrence runs once.
        chosen = list(zip(LANGUAGES, columns, strict=True))
        sentences_of = [row for language, column in chosen for row in self.data.tokens[language][photos, column]]
        tokens = torch.nn.utils.rnn.pad_sequence(sentences_of, batch_first=True)
        lengths = torch.cat([self.data.lengths[language][photos, column] for language, column in chosen])
        both = self.texts(tokens, lengths)
        goals = alike(self.data.themes[photos])
        said = together(self.teachers, photos, dict(chosen))
        losses, sentences = {}, []
        for row, language in enumerate(LANGUAGES):
            text = _rows(both, slice(row * len(photos), (row + 1) * len(photos)))
            found = self.head(self.model.fuse({"image": image, "text": text}))
            photo, sentence = found.vectors["image"], found.vectors["text"]
            fused = self.head(self.model.fuse(_fewer(image, text))).vectors[FUSED]
            losses[f"{language}_loss"] = _asked(photo @ sentence.t(), goals, found.scale, said.get(language))
            losses[f"{language}_fused_loss"] = soft_info_nce(fused @ (photo + sentence).t() / 2, goals, found.scale)
            sentences.append(sentence)
        between = sentences[0] @ sentences[1].t()
        losses["languages_loss"] = _asked(between, goals, self.head.scale, said.get("languages"))
        total = torch.stack(list(losses.values())).mean()
        return total, {name: float(value.detach()) for name, value in losses.items()}

    @torch.inference_mode()
    def teacher(self) -> Teacher:
        """What the network says of all training photos, each in two views, and sentences, as it is now."""
        self.model.eval()
        photos = []
        for places in torch.split(torch.arange(self.data.photos), 100):
            views = [self._embedded(places, torch.full_like(places, view)) for view in FROZEN_VIEWS]
            photos.append(F.normalize(torch.stack(views).mean(0), dim=1))
        sentences = {}
        for language in LANGUAGES:
            tokens, lengths = (each[language].flatten(0, 1) for each in (self.data.tokens, self.data.lengths))
            vectors = torch.empty(len(tokens), self.head.config.size)
            for rows in torch.split(lengths.argsort(), 500):
                encoded = self.model.fuse({"text": self.texts(tokens[rows], lengths[rows])})
                vectors[rows] = self.head(encoded).vectors["text"].float()
            sentences[language] = vectors.view(*self.data.lengths[language].shape, -1)
        return Teacher(torch.cat(photos), sentences, float(self.head.scale))

    def _embedded(self, photos: Tensor, views: Tensor) -> Tensor:
        found = self.head(self.model.fuse({"image": self.images("train", photos, views)}))
        vectors: Tensor = found.vectors["image"].float()
        return vectors

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.schedule.bf16 and multiplies_bf16()):
            return self._recall()

    def _recall(self) -> dict[str, float]:
        images = self._val_images()
        figures: dict[str, float] = {}
        for language in LANGUAGES:
            texts, photos = self._val_texts(language), self.data.val_photos[language]
            places = np.arange(len(images))
            there = group_retrieval_figures(images, texts, places, photos).values()
            back = group_retrieval_figures(texts, images, photos, places).values()
            figures[f"{language}_image_to_text"] = there["recall_at_10"]
            figures[f"{language}_text_to_image"] = back["recall_at_10"]
        figures["score"] = float(np.mean(list(figures.values())))
        return figures

    def _val_images(self) -> NDArray[np.float64]:
        count = len(self.data.lower["val"])
        blocks = []
        for photos in torch.split(torch.arange(count), 100):
            image = self.images("val", photos, torch.zeros_like(photos))
            blocks.append(self.head(self.model.fuse({"image": image})).vectors["image"])
        vectors: NDArray[np.float64] = torch.cat(blocks).double().numpy()
        return vectors

    def _val_texts(self, language: str) -> NDArray[np.float64]:
        sentences = self.data.val[language]
        # Sentences of one length share a batch, so that none is spent on padding.
        order = sorted(range(len(sentences)), key=lambda place: len(sentences[place]))
        vectors = np.empty((len(sentences), self.head.config.size))
        for rows in np.array_split(np.array(order), max(1, len(order) // 500)):
            padded = pad([sentences[row] for row in rows])
            encoded = self.model.fuse({"text": self.texts(padded.values, padded.lengths)})
            vectors[rows] = self.head(encoded).vectors["text"].double().numpy()
        return vectors


def alike(themes: Tensor) -> Tensor:
    """What to answer for each of B photos among them, [B, B] with rows that sum to 1: itself, and what is like it."""
    own = torch.eye(len(themes))
    return (1 - SOFT) * own + SOFT * (themes @ themes.t() / HEAT).softmax(1)


def _asked(cosines: Tensor, goals: Tensor, scale: Tensor, said: Tensor | None) -> Tensor:
    """InfoNCE against ``goals``, and mostly the divergence from what teachers ``said``, where there are any."""
    own = soft_info_nce(cosines, goals, scale)
    return own if said is None else (1 - TAUGHT) * own + TAUGHT * divergence(cosines.float() * scale, said)


def soft_info_nce(cosines: Tensor, goals: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE in both directions, of cosines [B, B] against ``goals`` [B, B] in place of the pairs alone."""
    logits = cosines.float() * scale
    there, back = (-(goals * each.log_softmax(1)).sum(1).mean() for each in (logits, logits.t()))
    return (there + back) / 2


def _maps(stored: NDArray[np.float16]) -> Tensor:
    """Feature maps for a product: in bfloat16 where it will be taken in that, without a detour over float32."""
    maps = torch.from_numpy(stored)
    return maps.bfloat16() if torch.is_autocast_enabled("cpu") else maps.float()


def _rows(output: SequenceOutput, rows: slice) -> SequenceOutput:
    return SequenceOutput(output.sequence[rows], output.lengths[rows], output.pooled[rows])


def _fewer(image: SequenceOutput, text: SequenceOutput) -> dict[str, SequenceOutput]:
    """Both, but for some rows that lack the photo and some that lack the sentence."""
    chance = torch.rand(len(image.lengths))
    return {
        "image": replace(image, lengths=image.lengths * (chance >= ABSENT_SHARE)),
        "text": replace(text, lengths=text.lengths * (chance < 1 - ABSENT_SHARE)),
    }
