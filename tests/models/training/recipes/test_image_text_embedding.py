"""The recipe from photos and captions to a checkpoint, on data and weights that the test makes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from models.encoders.mobilenet import EfficientNetLite0
from models.features.text import TextTokenizer
from models.media.limits import MediaLimits
from models.pipeline import Pipeline
from models.training.evaluation import evaluate
from models.training.manifest import DataError
from models.training.objectives import info_nce
from models.training.recipes.captioner.data import CUT
from models.training.recipes.image_text_embedding import recipe, stage
from models.training.recipes.image_text_embedding.ambiguity import main, recall
from models.training.recipes.image_text_embedding.teacher import Teacher, divergence, together
from models.training.recipes.imagenet import efficientnet_lite0
from models.training.trainer import Schedule
from tests.models.training.recipes.transformer import pretrained

COLOURS = {"red": ("红", (200, 30, 30)), "green": ("绿", (30, 180, 40)), "blue": ("蓝", (30, 40, 200))}
PHOTOS = {"train": 4, "val": 1}


BLOCKS = len(EfficientNetLite0().blocks)


def published() -> dict[str, torch.Tensor]:
    """Random weights of EfficientNet-Lite0 as they are published: batch normalization by itself, no biases."""
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def put(convolution: str, norm: str, layer: torch.nn.Conv2d) -> None:
        state[f"{convolution}.weight"] = layer.weight.detach()
        for name in ("weight", "running_var"):
            state[f"{norm}.{name}"] = torch.rand(layer.out_channels) + 0.5
        for name in ("bias", "running_mean"):
            state[f"{norm}.{name}"] = 0.1 * torch.randn(layer.out_channels)

    cnn = EfficientNetLite0()
    put("_conv_stem", "_bn0", cnn.stem)
    put("_conv_head", "_bn1", cnn.head)
    for index, block in enumerate(cnn.blocks):
        for number, part in enumerate(("expand", "depthwise", "project")):
            if getattr(block, part) is not None:
                put(f"_blocks.{index}._{part}_conv", f"_blocks.{index}._bn{number}", getattr(block, part))
    return state


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three colours with captions in both languages, and a CNN's random weights beside them."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "colours"
    folder.mkdir()
    for split, photos in PHOTOS.items():
        lines = []
        for name, (sign, colour) in COLOURS.items():
            for number in range(photos):
                path = f"{split}-{name}-{number}.png"
                Image.new("RGB", (40, 30), tuple(part + 5 * number for part in colour)).save(folder / path)
                captions = {"en": [f"a {name} square", f"it is {name}"], "zh": [f"{sign}色", f"一片{sign}"]}
                lines.append(json.dumps({"image": path, "captions": captions}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (root / "efficientnet_lite0").mkdir()
    torch.save(published(), root / "efficientnet_lite0" / "weights.pth")
    return folder


def short(**given: Any) -> Schedule:
    """A schedule for a dozen photos, which are one step an epoch and soon all found."""
    return Schedule(**given | {"epochs": min(given["epochs"], 4), "patience": 4, "warmup_steps": 1})


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    words = ("red", "green", "blue", "square", "it", "is", "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "WORDS", 24)
        pretrained(data.parent / "minilm", words, width=24)
        patch.setattr(recipe, "Schedule", short)
        recipe.train(data, out, 0)
    return out


def test_like_photos_share_what_is_asked_for() -> None:
    themes = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=1)
    goals = stage.alike(themes)
    assert torch.allclose(goals.sum(1), torch.ones(3))
    assert torch.equal(goals.argmax(1), torch.arange(3))
    assert goals[0, 1] > 100 * goals[0, 2]


def test_soft_pairs_are_info_nce_where_nothing_is_alike() -> None:
    torch.manual_seed(0)
    cosines = torch.rand(5, 5)
    found = stage.soft_info_nce(cosines, torch.eye(5), torch.tensor(7.0))
    assert float(found) == pytest.approx(float(info_nce(cosines, scale=7.0)), rel=1e-5)


def test_teachers_say_the_mean_of_their_scores() -> None:
    torch.manual_seed(0)
    photos, sentences = torch.nn.functional.normalize(torch.randn(2, 6, 4), dim=2)
    texts = {"en": sentences.unsqueeze(1), "zh": photos.unsqueeze(1)}
    one, other = Teacher(photos, texts, 2.0), Teacher(photos, texts, 6.0)
    chosen = torch.tensor([4, 0, 3])
    first = torch.zeros(3, dtype=torch.int64)
    said = together([one, other], chosen, {"en": first, "zh": first})
    assert torch.allclose(said["en"], 4.0 * photos[chosen] @ sentences[chosen].t())
    assert torch.allclose(said["languages"], 4.0 * sentences[chosen] @ photos[chosen].t())
    assert together([], chosen, {"en": first, "zh": first}) == {}


def test_who_says_the_same_as_a_teacher_does_not_diverge() -> None:
    torch.manual_seed(0)
    said = torch.randn(5, 5)
    assert float(divergence(said, said)) == pytest.approx(0, abs=1e-6)
    rows = torch.softmax(said, 1)
    wanted = (rows * (rows.log() - torch.log_softmax(torch.zeros(5, 5), 1))).sum(1).mean()
    columns = torch.softmax(said, 0)
    wanted += (columns * (columns.log() - torch.log_softmax(torch.zeros(5, 5), 0))).sum(0).mean()
    assert float(divergence(torch.zeros(5, 5), said)) == pytest.approx(float(wanted) / 2, rel=1e-5)


def logged(folder: Path, stage: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["stage"] == stage and line["kind"] == "train"]


def test_every_stage_learns(trained: Path) -> None:
    for name in ("captioner", "imagenet"):
        bag = logged(trained / name / "bag", "bag")
        sentences, tuned = (logged(trained / name, stage) for stage in ("sentences", "fine-tune"))
        assert bag[-1]["loss"] < bag[0]["loss"]
        assert sentences[-1]["loss"] < sentences[0]["loss"]
        assert tuned
    assert logged(trained, "taught")


def test_the_cnns_upper_blocks_move_and_the_lower_ones_stay(data: Path, trained: Path) -> None:
    before = efficientnet_lite0(data.parent / "efficientnet_lite0")
    after = load_file(trained / "checkpoint" / "model.safetensors")
    moved = {
        name for name, value in before.items() if not torch.equal(value.half(), after[f"encoders.image.cnn.{name}"])
    }
    assert {int(name.split(".")[1]) for name in moved if "blocks." in name} == set(range(CUT, BLOCKS))
    assert "stem.weight" not in moved


def test_the_checkpoint_embeds_both(data: Path, trained: Path) -> None:
    pipeline = Pipeline.load(trained / "checkpoint")
    picture = (data / "train-red-0.png").read_bytes()
    features = pipeline.features(pipeline.decode({"image": [picture], "text": ["一片红 it is red"]}, MediaLimits()))
    answer = pipeline.predict(features, pipeline.options()).model_dump()
    assert {name: len(vector) for name, vector in answer["embeddings"].items()} == {
        "image": 256,
        "text": 256,
        "fused": 256,
    }


def test_traditional_characters_read_as_simplified_ones(data: Path, trained: Path) -> None:
    pipeline = Pipeline.load(trained / "checkpoint")

    def vector(text: str) -> list[float]:
        features = pipeline.features(pipeline.decode({"text": [text]}, MediaLimits()))
        found: list[float] = pipeline.predict(features, pipeline.options()).model_dump()["embeddings"]["text"]
        return found

    assert vector("紅") == vector("红")
    assert vector("紅") != vector("绿")
    # A pair of characters is a word of its own.
    assert vector("一片紅") == vector("一片红")
    tokenizer = TextTokenizer.load(trained / "checkpoint" / "tokenizer.json")
    assert "片紅" in tokenizer.words(tokenizer.encode("一片紅"))


def test_it_is_measured_on_captions_beside_the_bag_of_words(data: Path, trained: Path) -> None:
    directions = {"image to text", "text to image"}
    wanted = {f"{language}, {direction}" for language in ("en", "zh") for direction in directions}
    metrics = json.loads((trained / "checkpoint" / "metrics.json").read_text())
    assert metrics["figures"].keys() == metrics["baselines"]["bag of words"].keys() == wanted
    # Three photos: each has its captions among the ten nearest.
    assert metrics["figures"]["en, image to text"]["recall_at_10"] == [100, 100, 100]
    again = evaluate(trained / "checkpoint", data, "val")
    assert again["figures"] == metrics["figures"]


def test_weights_that_are_missing_or_others_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"efficientnet_lite0 has 0 \.pth files and needs one"):
        recipe.train(tmp_path / "photos", tmp_path / "run", 0)
    weights = tmp_path / "efficientnet_lite0" / "weights.pth"
    weights.parent.mkdir()
    torch.save(published() | {"_conv_stem.weight": torch.zeros(1)}, weights)
    with pytest.raises(DataError, match="does not hold the weights of EfficientNet-Lite0"):
        recipe.train(tmp_path / "photos", tmp_path / "run", 0)
    weights.write_bytes(b"no weights")
    with pytest.raises(DataError, match="does not hold the weights of EfficientNet-Lite0"):
        recipe.train(tmp_path / "photos", tmp_path / "run", 0)


def test_normalization_is_folded_into_the_convolutions(data: Path) -> None:
    given, folded = published(), efficientnet_lite0(data.parent / "efficientnet_lite0")
    picture = torch.randn(1, 3, 32, 32)
    layer = torch.nn.functional.conv2d(picture, given["_conv_stem.weight"])
    moments = given["_bn0.running_mean"], given["_bn0.running_var"]
    wanted = torch.nn.functional.batch_norm(layer, *moments, given["_bn0.weight"], given["_bn0.bias"], eps=1e-3)
    found = torch.nn.functional.conv2d(picture, folded["stem.weight"], folded["stem.bias"])
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_caption_that_fits_every_photo_finds_none_in_particular() -> None:
    telling = [[f"dog {place}", f"{place} a dog"] for place in "bcdefghijklmnopqrstu"]
    assert recall(telling)[1] == 100
    vague = [[*captions, "\u4e00\u53ea\u72d7"] for captions in telling]
    # Two of three captions still tell; the third fits all photos alike.
    assert recall(vague) == pytest.approx(dict.fromkeys((1, 5, 10), 100 * 2 / 3))


def test_the_ambiguity_of_captions_has_a_command_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(data), "train"])
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["en", "zh"]
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert (ended.value.code, "usage: " in capsys.readouterr().out) == (0, True)
    with pytest.raises(SystemExit) as ended:
        main([str(data), "none"])
    assert ended.value.code == 2
    assert "none.jsonl does not exist" in capsys.readouterr().err
