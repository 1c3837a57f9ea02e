"""``image-text-embedding``: photos, English and Chinese sentences in one space, trained on Flickr8k and Flickr8k-CN.

A dual encoder: EfficientNet-Lite0, and one bidirectional GRU that reads both languages, Chinese by characters and by
pairs of them, which most of its words are. Each photo is pulled towards a sentence of each language, and those two
towards each other (InfoNCE).

A bag of words is trained first, on the CNN's output as read from disk: it costs little, is the baseline, and its word
vectors are where the GRU starts from.

Of 128 photos some are much alike, and to tell them apart at any price is to learn noise. So a part of what is asked for
goes to other photos in the measure in which their English captions resemble each other, in the eyes of MiniLM, a
pre-trained transformer (soft targets: Hinton et al. 2015; for pairs, Andonian et al. 2022). It also says where the
vectors of English words start.

Two such networks, over CNNs that start from different weights, then teach one of them what they say together.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import models
from models.checkpoint import load_checkpoint, save_checkpoint
from models.config import CheckpointConfig
from models.encoders.image import EfficientNetConfig, PhotoEncoder
from models.encoders.text import TextBag
from models.features.text import TextTokenizer, is_spaceless
from models.network import FusionRNN
from models.training.curves import draw_curves
from models.training.evaluation import evaluate
from models.training.novelty import learn_novelty
from models.training.recipes.averages import mean_of
from models.training.recipes.captioner.data import CaptionData
from models.training.recipes.image_text_embedding.data import PairData
from models.training.recipes.image_text_embedding.stage import PairStage
from models.training.recipes.image_text_embedding.teacher import Teacher
from models.training.recipes.imagenet import efficientnet_lite0
from models.training.recipes.teachers import Transformer, WordPieces, word_vectors
from models.training.recipes.traditional import SIMPLIFIED
from models.training.trainer import Schedule, Stage, Trainer

NAME = "image-text-embedding"
WORDS = 256
"""Size of a word's vector."""
SERVED_SIZE = 288
"""Pixels a side of what is served. Most training views are crops, in which things are larger than in whole photos; so a
network finds more in photos that are larger than its views were (Touvron et al. 2019, "Fixing the train-test
resolution discrepancy")."""
CAPTIONER = Path(next(iter(models.__path__))) / "zoo" / "captioner"
TEACHING = {"captioner": ("sentences", "fine-tune"), "imagenet": ("fine-tune",)}
"""By what its CNN starts from, the stages of a network after which it teaches.

Over the captioner's CNN, which has learned from these photos, it is as good before its own is tuned, and otherwise so.
"""
TAKEN = 0.7
"""How far the weights move from what they were before the network was taught to what they were after it."""


def describe(tokenizer: TextTokenizer, *, bag: bool = False) -> CheckpointConfig:
    """The checkpoint's config; ``bag`` replaces the GRU by the mean of the words, for the baseline."""
    text: dict[str, Any] = {"vocabulary": tokenizer.size, "embedding": WORDS, "word_dropout": 0.15}
    recurrent = {
        "cell": "gru", "hidden": 256, "bidirectional": True, "dropout": 0.3, "pooling": "mean", "words": True,
    }  # fmt: skip
    return CheckpointConfig.model_validate(
        {
            "name": NAME,
            "version": "1.5.0",
            "task": "embedding",
            "description": "Photos, English and Chinese sentences as unit vectors of one space: like lies by like.",
            "modalities": {
                "image": {"features": {"type": "pixels", "size": SERVED_SIZE}},
                "text": {"features": {"type": "tokens", "max_tokens": 96}},
            },
            "network": {
                "encoders": {
                    "image": {"type": "efficientnet-lite0", "width": 512},
                    "text": text | ({"type": "text-bag"} if bag else {"type": "text-rnn"} | recurrent),
                },
                "fusion": {"type": "concat", "width": 256},
                "head": {"type": "embedding", "size": 256, "fused": True, "dropout": 0.2},
            },
        }
    )


def train(data_folder: Path, out: Path, seed: int) -> None:
    """Train in ``out``, resuming what is there, and write the checkpoint folder ``out/checkpoint``.

    Two networks are trained first, each over its own CNN, in ``out/captioner`` and ``out/imagenet``. The second of them
    is then taught by both. Its baseline, a bag of words, is in ``out/imagenet/bag/checkpoint``. Network and baseline
    are measured on the validation photos.

    One CNN starts from the shipped captioner's, the other from ImageNet's weights in the folder ``efficientnet_lite0``
    beside the data folder; their lower blocks stay as they are.

    Raises:
        DataError: the data or the CNN's weights are missing.
    """
    root = data_folder.parent
    imagenet = efficientnet_lite0(root / "efficientnet_lite0")
    captioner = load_checkpoint(CAPTIONER).network.encoders["image"]
    assert isinstance(captioner, PhotoEncoder)
    pieces, minilm = WordPieces(root / "minilm"), Transformer.pretrained(root / "minilm")
    known: Tensor | None = None
    teachers: list[Teacher] = []
    for name, weights in (("captioner", captioner.cnn.state_dict()), ("imagenet", imagenet)):
        cnn = PhotoEncoder(EfficientNetConfig())
        cnn.cnn.load_state_dict(weights)
        captions = CaptionData(data_folder, out / "cache", cnn)
        known = themes(captions, minilm, pieces) if known is None else known
        data = PairData(captions, out / "cache", cnn, known)
        model = _one(data, cnn, word_vectors(data.tokenizer, minilm, pieces, WORDS), out / name, seed)
        for stage in TEACHING[name]:
            model.load_state_dict(torch.load(out / name / f"{stage}.pt", weights_only=True))
            teachers.append(taught_stage(model, data).teacher())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Trainer(model, [taught_stage(model, data, teachers)], out, seed=seed).run()
    draw_curves(out / "log.jsonl", out / "curves.png")
    model.load_state_dict(mean_of(before, model.state_dict(), TAKEN))
    bag = evaluate(out / "imagenet" / "bag" / "checkpoint", data_folder, "val", "captions")["figures"]
    about = {"dataset": data_folder.resolve().name, "split": "val", "seed": seed, "baselines": {"bag of words": bag}}
    model, tokenizer = reading_traditional(model, data.tokenizer)
    save_checkpoint(out / "checkpoint", describe(tokenizer), model, tokenizer, metrics=about)
    learn_novelty(out / "checkpoint", [data_folder])
    evaluate(out / "checkpoint", data_folder, "val", "captions", save=True)


def _one(data: PairData, cnn: PhotoEncoder, words: Tensor, out: Path, seed: int) -> FusionRNN:
    """A network of its own, over this CNN: a bag of words, and the GRU that begins with what the bag knows."""
    bag = _network(describe(data.tokenizer, bag=True), cnn, seed)
    start_words(bag, words)
    Trainer(bag, bag_stages(bag, data), out / "bag", seed=seed).run()
    save_checkpoint(out / "bag" / "checkpoint", describe(data.tokenizer, bag=True), bag, data.tokenizer)
    model = _network(describe(data.tokenizer), cnn, seed)
    start_from_bag(model, bag)
    Trainer(model, stages(model, data), out, seed=seed).run()
    draw_curves(out / "log.jsonl", out / "curves.png")
    return model


def bag_stages(model: FusionRNN, data: PairData) -> list[Stage]:
    """How the bag of words is trained."""
    schedule = Schedule(epochs=14, metric="score", patience=14, warmup_steps=50, averaging=0.98, bf16=True)
    return [PairStage("bag", model, data, schedule, rate=2e-3, trains="regions")]


def stages(model: FusionRNN, data: PairData) -> list[Stage]:
    """How a network is trained from the bag of words on."""
    sentences = Schedule(epochs=8, metric="score", warmup_steps=30, averaging=0.98, bf16=True)
    tuned = Schedule(epochs=12, metric="score", warmup_steps=30, averaging=0.98, bf16=True)
    return [
        PairStage("sentences", model, data, sentences, rate=1e-3, trains="nothing"),
        PairStage("fine-tune", model, data, tuned, rate=5e-4, trains="cnn", cnn_rate=2e-4),
    ]


def taught_stage(model: FusionRNN, data: PairData, teachers: Sequence[Teacher] = ()) -> PairStage:
    """How the network goes on with what teachers say."""
    schedule = Schedule(epochs=10, metric="score", warmup_steps=30, averaging=0.98, bf16=True)
    return PairStage("taught", model, data, schedule, rate=5e-4, trains="cnn", cnn_rate=2e-4, teachers=teachers)


def themes(captions: CaptionData, teacher: Transformer, pieces: WordPieces) -> Tensor:
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


def _network(config: CheckpointConfig, cnn: PhotoEncoder, seed: int) -> FusionRNN:
    """A new network whose CNN has the weights of ``cnn``."""
    torch.manual_seed(seed)
    network = FusionRNN(config.network)
    encoder = network.encoders["image"]
    assert isinstance(encoder, PhotoEncoder)
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
    """The same network that also knows traditional characters and pairs, each by its simplified form's vector."""
    known = set(tokenizer.words(range(tokenizer.size)))
    written = {new: [new] for new in SIMPLIFIED.values()}
    for old, new in SIMPLIFIED.items():
        written[new].append(old)
    spaceless = sorted(word for word in known if len(word) <= 2 and all(map(is_spaceless, word)))
    forms = {
        "".join(signs): word for word in spaceless for signs in product(*(written.get(sign, [sign]) for sign in word))
    }
    added = [form for form in forms if form not in known]
    larger = tokenizer.extended(added)
    weights = model.state_dict()
    rows = [tokenizer.encode(forms[form])[-1] for form in added]
    table = weights["encoders.text.embedding.weight"]
    weights["encoders.text.embedding.weight"] = torch.cat([table, table[rows]])
    network = FusionRNN(describe(larger).network)
    network.load_state_dict(weights)
    return network, larger
