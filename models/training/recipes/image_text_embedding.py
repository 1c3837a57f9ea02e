"""``image-text-embedding``: photos, English and Chinese sentences in one space, trained on Flickr8k and Flickr8k-CN.

A dual encoder: the CNN that the captioner has fine-tuned, and one bidirectional GRU that reads both languages. Each
photo is pulled towards a sentence of each language, and those two towards each other (InfoNCE).

A bag of words is trained first, on the CNN's output as read from disk: it costs little, is the baseline, and its word
vectors are where the GRU starts from.

Of 128 photos some are much alike, and to tell them apart at any price is to learn noise. So a part of what is asked for
goes to other photos in the measure in which their English captions resemble each other, in the eyes of MiniLM, a
pre-trained transformer (soft targets: Hinton et al. 2015; for pairs, Andonian et al. 2022). It also says where the
vectors of English words start.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoint import WEIGHTS, save_checkpoint
from models.config import CheckpointConfig
from models.encoders.image import MobileNetEncoder
from models.encoders.mobilenet import CHANNELS, STRIDE
from models.encoders.text import TextBag
from models.features.text import TextTokenizer
from models.heads import EmbeddingHead
from models.heads.embedding import FUSED
from models.network import FusionRNN
from models.sequence import SequenceOutput, pad
from models.training.cache import FeatureArray, cached_features
from models.training.curves import draw_curves
from models.training.evaluation import evaluate
from models.training.manifest import DataError
from models.training.metrics.retrieval import group_retrieval_figures
from models.training.recipes.captioner import CUT, IMAGE_SIZE, LANGUAGES, CaptionData
from models.training.recipes.captioner import build as build_captioner
from models.training.recipes.minilm import MiniLM, WordPieces, word_vectors
from models.training.recipes.traditional import SIMPLIFIED
from models.training.trainer import Schedule, Stage, Trainer, multiplies_bf16

NAME = "image-text-embedding"
CAPTIONER = Path(__file__).parents[2] / "zoo" / "captioner"
"""The checkpoint whose CNN this one starts from."""
WORDS = 256
"""Size of a word's vector."""
FROZEN_VIEWS = (0, 3)
"""Views of each photo that the first stage sees, as it is and cropped and mirrored: 125 kB each on disk."""
SOFT = 0.5
"""Share of what is asked for that goes to like photos, and to the photo itself as one of them."""
HEAT = 0.1
"""How unlike they may be: differences of cosines count tenfold."""
ABSENT_SHARE = 0.25
"""How often the fused vector has to do without the photo, and how often without the sentence."""


def describe(tokenizer: TextTokenizer, *, bag: bool = False) -> CheckpointConfig:
    """The checkpoint's config; ``bag`` replaces the GRU by the mean of the words, for the baseline."""
    text: dict[str, Any] = {"vocabulary": tokenizer.size, "embedding": WORDS, "word_dropout": 0.15}
    recurrent = {
        "cell": "gru", "hidden": 256, "bidirectional": True, "dropout": 0.3, "pooling": "mean", "words": True,
    }  # fmt: skip
    return CheckpointConfig.model_validate(
        {
            "name": NAME,
            "version": "1.0.0",
            "task": "embedding",
            "description": "Photos, English and Chinese sentences as unit vectors of one space: like lies by like.",
            "modalities": {
                "image": {"features": {"type": "pixels", "size": IMAGE_SIZE}},
                "text": {"features": {"type": "tokens", "max_tokens": 64}},
            },
            "network": {
                "encoders": {
                    "image": {"type": "mobilenet-v2", "width": 512},
                    "text": text | ({"type": "text-bag"} if bag else {"type": "text-rnn"} | recurrent),
                },
                "fusion": {"type": "concat", "width": 256},
                "head": {"type": "embedding", "size": 256, "fused": True, "dropout": 0.2},
            },
        }
    )


class PairData:
    """The captioner's photos and captions, and the photos as the CNN's output while it stays as it is.

    ``themes`` are unit vectors float32 [N, 384] of what each training photo's English captions speak of.
    """

    def __init__(self, captions: CaptionData, cache: Path, cnn: MobileNetEncoder, themes: Tensor) -> None:
        self.themes = themes
        self.lower = captions.lower
        self.photos = len(captions.words["train"])
        pad_id, end = captions.tokenizer.pad, captions.tokenizer.end
        self.tokens = {language: ids.masked_fill(ids == end, pad_id) for language, ids in captions.tokens.items()}
        self.lengths = {language: (ids != pad_id).sum(2).clamp(min=1) for language, ids in self.tokens.items()}
        self.val = {
            language: [
                torch.tensor(captions.tokenizer.encode(" ".join(words)) or [captions.tokenizer.unknown])
                for photo in captions.words["val"]
                for words in photo[language]
            ]
            for language in LANGUAGES
        }
        counts = {language: [len(photo[language]) for photo in captions.words["val"]] for language in LANGUAGES}
        self.val_photos = {language: np.repeat(np.arange(len(most)), most) for language, most in counts.items()}
        self.maps = {
            split: _upper(lower, FROZEN_VIEWS if split == "train" else (0,), split, cache, cnn)
            for split, lower in captions.lower.items()
        }


class PairStage(Stage):
    """InfoNCE between photos, sentences of both languages, and what both are together.

    ``trains`` says how much of the photos' side is trained beside its projection into the joint space: ``nothing``, so
    that each view's vector is computed once; the ``regions``' projection; or the ``cnn``'s upper blocks too, at
    ``cnn_rate``.
    """

    def __init__(
        self, name: str, model: FusionRNN, data: PairData, schedule: Schedule, *, rate: float,
        trains: Literal["nothing", "regions", "cnn"], cnn_rate: float = 0, batch: int = 128,
    ) -> None:  # fmt: skip
        self.name, self.model, self.data, self.schedule = name, model, data, schedule
        self.rate, self.trains, self.cnn_rate, self.batch = rate, trains, cnn_rate, batch
        self._pooled: dict[str, Tensor] = {}

    @property
    def encoder(self) -> MobileNetEncoder:
        encoder = self.model.encoders["image"]
        assert isinstance(encoder, MobileNetEncoder)
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
        losses, sentences = {}, []
        for row, language in enumerate(LANGUAGES):
            text = _rows(both, slice(row * len(photos), (row + 1) * len(photos)))
            found = self.head(self.model.fuse({"image": image, "text": text}))
            photo, sentence = found.vectors["image"], found.vectors["text"]
            fused = self.head(self.model.fuse(_fewer(image, text))).vectors[FUSED]
            losses[f"{language}_loss"] = soft_info_nce(photo @ sentence.t(), goals, found.scale)
            losses[f"{language}_fused_loss"] = soft_info_nce(fused @ (photo + sentence).t() / 2, goals, found.scale)
            sentences.append(sentence)
        losses["languages_loss"] = soft_info_nce(sentences[0] @ sentences[1].t(), goals, self.head.scale)
        total = torch.stack(list(losses.values())).mean()
        return total, {name: float(value.detach()) for name, value in losses.items()}

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


def soft_info_nce(cosines: Tensor, goals: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE in both directions, of cosines [B, B] against ``goals`` [B, B] in place of the pairs alone."""
    logits = cosines.float() * scale
    there, back = (-(goals * each.log_softmax(1)).sum(1).mean() for each in (logits, logits.t()))
    return (there + back) / 2


def train(data_folder: Path, out: Path, seed: int) -> None:
    """Train in ``out``, resuming what is there, and write the checkpoint folder ``out/checkpoint``.

    The baseline, a bag of words, is trained first and written to ``out/bag/checkpoint``. Both are measured on the
    validation photos.

    The CNN's lower blocks are ImageNet's, as the captioner's are (``mobilenet_v2/imagenet.safetensors`` beside the data
    folder), and the upper ones those of the shipped captioner; a link from ``out/cache`` to the captioner's saves
    computing the photos' features again.

    Raises:
        DataError: the data or the CNN's weights are missing.
    """
    weights = data_folder.parent / "mobilenet_v2" / "imagenet.safetensors"
    for needed in (weights, CAPTIONER / WEIGHTS):
        if not needed.is_file():
            raise DataError(f"{needed} does not exist: the photos' encoder starts from it")
    start, captions, _ = build_captioner(data_folder, out, weights)
    cnn = start.encoders["image"]
    assert isinstance(cnn, MobileNetEncoder)
    prefix = "encoders.image.cnn."
    tuned = load_file(CAPTIONER / WEIGHTS)
    cnn.cnn.load_state_dict(
        {name.removeprefix(prefix): value.float() for name, value in tuned.items() if name.startswith(prefix)}
    )
    pieces, teacher = WordPieces(data_folder.parent / "minilm"), MiniLM.pretrained(data_folder.parent / "minilm")
    data = PairData(captions, out / "cache", cnn, themes(captions, teacher, pieces))
    bag = _network(describe(captions.tokenizer, bag=True), cnn, seed)
    start_words(bag, word_vectors(captions.tokenizer, teacher, pieces, WORDS))
    Trainer(bag, bag_stages(bag, data), out / "bag", seed=seed).run()
    save_checkpoint(out / "bag" / "checkpoint", describe(captions.tokenizer, bag=True), bag, captions.tokenizer)
    model = _network(describe(captions.tokenizer), cnn, seed)
    start_from_bag(model, bag)
    Trainer(model, stages(model, data), out, seed=seed).run()
    draw_curves(out / "log.jsonl", out / "curves.png")
    baselines = {"bag of words": evaluate(out / "bag" / "checkpoint", data_folder, "val", "captions")["figures"]}
    before = {"dataset": data_folder.resolve().name, "split": "val", "seed": seed, "baselines": baselines}
    model, tokenizer = reading_traditional(model, captions.tokenizer)
    save_checkpoint(out / "checkpoint", describe(tokenizer), model, tokenizer, metrics=before)
    evaluate(out / "checkpoint", data_folder, "val", "captions")


def bag_stages(model: FusionRNN, data: PairData) -> list[Stage]:
    """How the bag of words is trained."""
    schedule = Schedule(epochs=8, metric="score", warmup_steps=50, averaging=0.98, bf16=True)
    return [PairStage("bag", model, data, schedule, rate=2e-3, trains="regions")]


def stages(model: FusionRNN, data: PairData) -> list[Stage]:
    """The recipe, from the bag of words on."""
    sentences = Schedule(epochs=6, metric="score", warmup_steps=30, averaging=0.98, bf16=True)
    tuned = Schedule(epochs=8, metric="score", warmup_steps=30, averaging=0.98, bf16=True)
    return [
        PairStage("sentences", model, data, sentences, rate=1e-3, trains="nothing"),
        PairStage("fine-tune", model, data, tuned, rate=5e-4, trains="cnn", cnn_rate=2e-4),
    ]


def themes(captions: CaptionData, teacher: MiniLM, pieces: WordPieces) -> Tensor:
    """The mean of the vectors of each training photo's English captions, at unit length."""
    photos = captions.words["train"]
    counts = [len(photo["en"]) for photo in photos]
    given = teacher.vectors(pieces([" ".join(words) for photo in photos for words in photo["en"]]))
    each = torch.split(F.normalize(given, dim=1), counts)
    return F.normalize(torch.stack([vectors.mean(0) for vectors in each]), dim=1)


def start_words(network: FusionRNN, vectors: Tensor) -> None:
    """Let the words that have vectors start from them, at the length that the others have."""
    encoder = network.encoders["text"]
    assert isinstance(encoder, TextBag)
    table = encoder.embedding.weight.data
    known = vectors.norm(dim=1) > 0
    table[known] = vectors[known] * table.norm(dim=1).mean()


def _network(config: CheckpointConfig, cnn: MobileNetEncoder, seed: int) -> FusionRNN:
    """A new network whose CNN has the weights of ``cnn``."""
    torch.manual_seed(seed)
    network = FusionRNN(config.network)
    encoder = network.encoders["image"]
    assert isinstance(encoder, MobileNetEncoder)
    encoder.cnn.load_state_dict(cnn.cnn.state_dict())
    return network


def start_from_bag(model: FusionRNN, bag: FusionRNN) -> None:
    """Let ``model`` answer as the bag of words does, until it learns what the GRU adds.

    The photos' side, word vectors and temperature are the same; what reads a text reads only its words at first, which
    stand behind the GRU's outputs.
    """
    given, mine = bag.state_dict(), model.state_dict()
    for name, value in mine.items():
        other = given.get(name)
        if other is not None and other.shape == value.shape:
            mine[name] = other
        elif other is not None:
            mine[name] = torch.zeros_like(value)
            mine[name][..., -other.shape[-1] :] = other
    model.load_state_dict(mine)


def reading_traditional(model: FusionRNN, tokenizer: TextTokenizer) -> tuple[FusionRNN, TextTokenizer]:
    """The same network with traditional characters in its vocabulary, each with its simplified form's vector."""
    words = tokenizer.words(range(tokenizer.size))
    known = set(words)
    added = [old for old, new in SIMPLIFIED.items() if new in known and old not in known]
    specials = TextTokenizer.build([], LANGUAGES).size
    larger = TextTokenizer.build([*words[specials:], *added], LANGUAGES)
    weights = model.state_dict()
    rows = [tokenizer.encode(SIMPLIFIED[old])[0] for old in added]
    table = weights["encoders.text.embedding.weight"]
    weights["encoders.text.embedding.weight"] = torch.cat([table, table[rows]])
    network = FusionRNN(describe(larger).network)
    network.load_state_dict(weights)
    return network, larger


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


def _upper(
    lower: FeatureArray, views: tuple[int, ...], split: str, cache: Path, encoder: MobileNetEncoder
) -> FeatureArray:
    """fp16 [N, views, 1280, 7, 7]: what the whole CNN says about some views of each photo."""

    @torch.inference_mode()
    def compute(first: int) -> Iterator[NDArray[np.float32]]:
        for start in range(first, len(lower), 32):
            block = torch.from_numpy(lower[start : start + 32][:, views].astype(np.float32))
            with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
                maps = encoder.cnn.upper(block.flatten(0, 1), CUT).float()
            yield from maps.reshape(*block.shape[:2], *maps.shape[1:]).numpy()

    side = IMAGE_SIZE // STRIDE
    weights = sum(float(parameter.detach().double().abs().sum()) for parameter in encoder.cnn.parameters())
    key = {"weights": weights, "cut": CUT, "views": views}
    return cached_features(cache, key, (len(lower), len(views), CHANNELS, side, side), compute, label=f"maps-{split}")
