"""``captioner``: photos to English and Chinese captions, trained on Flickr8k and Flickr8k-CN.

Three stages: cross-entropy on a frozen CNN, then the CNN's upper blocks too, then self-critical training on CIDEr-D
(Rennie et al. 2017) with the mean of a photo's other samples as baseline (Luo 2020). The weights that are kept are the
mean of the last two stages'. The CNN's lower blocks stay as they are, so their output is computed once for a few views
of each photo and read from disk ever after.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.decoding.beam import beam_search
from models.decoding.sampling import sample
from models.encoded import Encoded
from models.encoders.image import MobileNetConfig, MobileNetEncoder
from models.features.image import ImageFeatures
from models.features.text import TextTokenizer, frequent, join
from models.heads.captioning import CaptioningHead
from models.media.image import decode_image
from models.media.limits import MediaLimits
from models.network import FusionRNN
from models.training.cache import FeatureArray, cached_features
from models.training.captions import Taught, caption_cross_entropy, self_critical, teach
from models.training.curves import draw_curves
from models.training.manifest import DataError, Manifest, read_manifest
from models.training.metrics.bleu import bleu, bleu_statistics
from models.training.metrics.cider import CiderD
from models.training.trainer import Schedule, Stage, Trainer

LANGUAGES = ("en", "zh")
# Words rarer than this are not written; Chinese is written in characters, of which rarer ones still recur.
MINIMUM_COUNT = {"en": 4, "zh": 3}
LONGEST = {"en": 20, "zh": 18}
SCALE = {"en": 0.54, "zh": 0.95}
"""CIDEr-D that is aimed at. Chinese figures are about twice the English ones: as shares of these both count alike."""
CUT = 7
"""Blocks of the CNN that stay as they are; their output, 64 x 14 x 14, is the smallest in the network."""
VIEWS = 6
IMAGE_SIZE = 224


def describe(tokenizer: TextTokenizer, **head: Any) -> CheckpointConfig:
    """The checkpoint's config; ``head`` overrides the head's settings, for the baselines."""
    return CheckpointConfig.model_validate(
        {
            "name": "captioner",
            "version": "1.0.0",
            "task": "captioning",
            "description": "Describes photos, or a short video, in one English or Chinese sentence.",
            "modalities": {
                "image": {"required": True, "max_items": 8, "features": {"type": "pixels", "size": IMAGE_SIZE}}
            },
            "network": {
                "encoders": {"image": {"type": "mobilenet-v2", "width": 512, "dropout": 0.2}},
                "fusion": {"type": "concat", "width": 512},
                "head": {"type": "captioning", "languages": LANGUAGES, "vocabulary": tokenizer.size, "dropout": 0.4}
                | head,
            },
            "defaults": {"language": "en", "beam_size": 3, "max_length": 20, "length_penalty": 0.7, "no_repeat": 3},
        }
    )


class CaptionData:
    """Both splits: photos as the lower CNN's output, captions as words and as token ids."""

    def __init__(self, folder: Path, cache: Path, cnn: MobileNetEncoder, tokenizer: TextTokenizer | None = None):
        self.manifests = {split: read_manifest(folder, split, media=("image",)) for split in ("train", "val")}
        splitter = tokenizer or TextTokenizer.build([])
        self.words = {
            split: [
                {language: [splitter.split(text) for text in _captions(example, language)] for language in LANGUAGES}
                for example in manifest.examples
            ]
            for split, manifest in self.manifests.items()
        }
        self.tokenizer = tokenizer or self._tokenizer()
        self.tokens = {language: self._tokens(language) for language in LANGUAGES}
        self.lower = {
            split: _lower(manifest, cache, cnn, VIEWS if split == "train" else 1)
            for split, manifest in self.manifests.items()
        }

    def spoken(self) -> Tensor:
        """Which tokens each language may write: uint8 [L, V]."""
        spoken = torch.zeros(len(LANGUAGES), self.tokenizer.size, dtype=torch.uint8)
        for row, language in enumerate(LANGUAGES):
            words = frequent(self._counts(language), MINIMUM_COUNT[language])
            spoken[row, [index for word in words for index in self.tokenizer.encode(word)]] = 1
            spoken[row, self.tokenizer.unknown] = 0
            spoken[row, self.tokenizer.end] = 1
        return spoken

    def _counts(self, language: str) -> Counter[str]:
        return Counter(word for photo in self.words["train"] for caption in photo[language] for word in caption)

    def _tokenizer(self) -> TextTokenizer:
        words = [word for lang in LANGUAGES for word in frequent(self._counts(lang), MINIMUM_COUNT[lang])]
        return TextTokenizer.build(words, LANGUAGES)

    def _tokens(self, language: str) -> Tensor:
        """Training captions [N, K, T + 1], ended and padded, each photo's longest first."""
        end = self.tokenizer.end
        photos = self.words["train"]
        longest, most = LONGEST[language], max(len(photo[language]) for photo in photos)
        tokens = torch.full((len(photos), most, longest + 1), self.tokenizer.pad)
        for row, photo in enumerate(photos):
            encoded = sorted((self.tokenizer.encode(" ".join(c)) for c in photo[language]), key=len, reverse=True)
            for column, caption in enumerate(encoded):
                ids = [*caption, end] if len(caption) <= longest else caption[: longest + 1]
                tokens[row, column, : len(ids)] = torch.tensor(ids)
        return tokens


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
    def encoder(self) -> MobileNetEncoder:
        encoder = self.model.encoders["image"]
        assert isinstance(encoder, MobileNetEncoder)
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
    """Teacher forcing with label smoothing; ``cnn_rate`` above 0 trains the CNN's upper blocks as well."""

    def __init__(
        self, name: str, model: FusionRNN, data: CaptionData, schedule: Schedule, *, rate: float, cnn_rate: float = 0,
        batch: int = 16,
    ) -> None:  # fmt: skip
        super().__init__(model, data, schedule, batch=batch)
        self.name, self.rate, self.cnn_rate = name, rate, cnn_rate

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = [{"params": _without_cnn(self.model), "lr": self.rate}]
        if self.cnn_rate:
            upper = [*self.encoder.cnn.blocks[CUT:].parameters(), *self.encoder.cnn.head.parameters()]
            groups.append({"params": upper, "lr": self.cnn_rate})
        return groups

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        photos, views = batch.unbind(1)
        encoded = self.encode("train", photos, views)
        losses = {
            language: caption_cross_entropy(self.teach(encoded, language, self.data.tokens[language][photos]))
            for language in LANGUAGES
        }
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


def build(data_folder: Path, out: Path, weights: Path, **head: Any) -> tuple[FusionRNN, CaptionData, CheckpointConfig]:
    """The network with ImageNet weights in its CNN, and the data it trains on."""
    start = MobileNetEncoder(MobileNetConfig())
    imagenet = {name: value.float() for name, value in load_file(weights).items() if not name.startswith("classifier")}
    start.cnn.load_state_dict(imagenet)
    data = CaptionData(data_folder, out / "cache", start)
    config = describe(data.tokenizer, **head)
    model = FusionRNN(config.network)
    encoder, writer = model.encoders["image"], model.head
    assert isinstance(encoder, MobileNetEncoder)
    assert isinstance(writer, CaptioningHead)
    encoder.cnn.load_state_dict(imagenet)
    writer.spoken.copy_(data.spoken())
    return model, data, config


def mean_of(some: dict[str, Tensor], others: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights half-way between two states of one network."""
    return {name: value.lerp(others[name], 0.5) if value.is_floating_point() else value for name, value in some.items()}


def stages(model: FusionRNN, data: CaptionData, out: Path) -> list[Stage]:
    """The recipe."""
    return [
        CrossEntropyStage("cross-entropy", model, data, Schedule(epochs=3, metric="score", bf16=True), rate=1e-3),
        CrossEntropyStage(
            "fine-tune", model, data, Schedule(epochs=9, metric="score", bf16=True), rate=7e-4, cnn_rate=1e-4
        ),
        SelfCriticalStage(
            model, data, Schedule(epochs=8, metric="score", clip=0.5, bf16=True), out / "fine-tune.pt", rate=6e-5
        ),
    ]


BASELINES: dict[str, dict[str, Any]] = {
    "mean": {"attend": "mean"},
    "elman": {"cell": "elman"},
    "gru": {"cell": "gru"},
}
"""Decoders that the shipped one is compared with, after the recipe's first stage: what of its head is changed."""


def _without_cnn(model: FusionRNN) -> list[torch.nn.Parameter]:
    encoder = model.encoders["image"]
    assert isinstance(encoder, MobileNetEncoder)
    frozen = {id(parameter) for parameter in encoder.cnn.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in frozen]


def _captions(example: dict[str, Any], language: str) -> list[str]:
    captions = example.get("captions", {}).get(language)
    if not captions:
        raise DataError(f"{example.get('image')} has no '{language}' captions")
    return list(captions)


def _lower(manifest: Manifest, cache: Path, encoder: MobileNetEncoder, views: int) -> FeatureArray:
    """fp16 [N, views, 64, 14, 14]: the photo, its mirror image, and crops in other light, every second one mirrored."""
    resize = ImageFeatures(size=IMAGE_SIZE)

    @torch.inference_mode()
    def compute(first: int) -> Iterator[NDArray[np.float32]]:
        for row, example in enumerate(manifest.examples[first:], first):
            data = manifest.path(example, "image").read_bytes()
            picture = decode_image(data, MediaLimits(), target=IMAGE_SIZE)
            pixels = resize.extract([_view(picture, row, view) for view in range(views)])
            yield encoder.cnn.lower(pixels.float() / 127.5 - 1, CUT).numpy()

    key = {"data": [str(e["image"]) for e in manifest.examples], "cut": CUT, "weights": _fingerprint(encoder)}
    shape = (len(manifest.examples), views, 64, IMAGE_SIZE // 16, IMAGE_SIZE // 16)
    return cached_features(cache, key, shape, compute, label=f"photos-{manifest.split}")


def _view(picture: NDArray[np.uint8], row: int, view: int) -> NDArray[np.uint8]:
    if view >= 2:
        rng = np.random.default_rng([row, view])
        height, width = (round(side * rng.uniform(0.7, 0.95)) for side in picture.shape[:2])
        top = rng.integers(0, picture.shape[0] - height + 1)
        left = rng.integers(0, picture.shape[1] - width + 1)
        crop = Image.fromarray(picture[top : top + height, left : left + width])
        for light in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            crop = light(crop).enhance(rng.uniform(0.75, 1.25))
        picture = np.asarray(crop)
    return np.asarray(Image.fromarray(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT)) if view % 2 else picture


def _fingerprint(encoder: MobileNetEncoder) -> float:
    return sum(float(parameter.detach().double().abs().sum()) for parameter in encoder.cnn.parameters())


def train(data_folder: Path, out: Path, seed: int, *, baseline: str | None = None) -> None:
    """Train in ``out``, resuming what is there, and write the checkpoint folder ``out/checkpoint``.

    The CNN starts from ``mobilenet_v2/imagenet.safetensors`` beside the data folder. ``out/stages`` gets a checkpoint
    folder of each stage's best weights, to measure what it brought. A ``baseline`` stops after the first stage.

    Raises:
        DataError: the data or the CNN's weights are missing.
    """
    weights = data_folder.parent / "mobilenet_v2" / "imagenet.safetensors"
    if not weights.is_file():
        raise DataError(f"{weights} does not exist: put MobileNetV2's ImageNet weights beside the data folder")
    torch.manual_seed(seed)
    model, data, config = build(data_folder, out, weights, **(BASELINES[baseline] if baseline else {}))
    planned = stages(model, data, out)
    planned = planned[:1] if baseline else planned
    Trainer(model, planned, out, seed=seed).run()
    for stage in planned:
        model.load_state_dict(torch.load(out / f"{stage.name}.pt", weights_only=True))
        save_checkpoint(out / "stages" / stage.name, config, model, data.tokenizer)
    if not baseline:
        trained = torch.load(out / "self-critical.pt", weights_only=True)
        model.load_state_dict(mean_of(trained, torch.load(out / "fine-tune.pt", weights_only=True)))
    draw_curves(out / "log.jsonl", out / "curves.png")
    save_checkpoint(out / "checkpoint", config, model, data.tokenizer)
