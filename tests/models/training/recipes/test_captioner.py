"""The captioner's recipe from photos and captions to a checkpoint, on a handful that the test makes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.checkpoint import load_checkpoint
from models.pipeline import Pipeline
from models.training.recipes.captioner import data as captioner_data
from models.training.recipes.captioner import recipe as captioner
from models.training.trainer import Schedule
from tests.support import photo

ENGLISH = "a brown dog runs through the deep snow"
CHINESE = "一只小狗在雪地里奔跑"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    folder = root / "flickr8k"
    folder.mkdir()
    for split, count in (("train", 4), ("val", 2)):
        lines = []
        for number in range(count):
            name = f"{split}{number}.png"
            photo(64, 48, seed=number).save(folder / name)
            captions = {"en": [ENGLISH, "a dog in the snow"], "zh": [CHINESE, "雪地里的狗"]}
            lines.append(json.dumps({"image": name, "captions": captions}, ensure_ascii=False))
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def short(*args: Any, **kwargs: Any) -> Schedule:
    return Schedule(*args, **(kwargs | {"epochs": 1, "bf16": False}))


@pytest.mark.slow
def test_four_stages_end_in_a_teacher_and_the_checkpoint_lies_between_it_and_what_it_taught(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioner, "Schedule", short)
    monkeypatch.setattr(captioner_data, "VIEWS", 2)
    captioner.train(data, tmp_path, seed=0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    stages = [line["stage"] for line in lines if line["kind"] == "validation"]
    assert stages == ["cross-entropy", "fine-tune", "fine-tune-again", "self-critical"]
    tuned, critical = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in stages[2:])
    teacher = load_file(tmp_path / "stages" / "teacher" / "model.safetensors")
    taught = torch.load(tmp_path / "taught" / "taught.pt", weights_only=True)
    shipped = load_file(tmp_path / "checkpoint" / "model.safetensors")
    for name, value in shipped.items():
        if value.is_floating_point():
            mean = (tuned[name] + critical[name]) / 2
            torch.testing.assert_close(teacher[name].float(), mean, atol=2e-3, rtol=2e-3)
            torch.testing.assert_close(value.float(), mean.lerp(taught[name], 0.6), atol=2e-3, rtol=2e-3)
    # It sees as the shipped embedding does, and learns only in the CNN's upper blocks.
    lower, upper = (f"encoders.image.cnn.blocks.{block}.project.weight" for block in (3, 12))
    given = load_checkpoint(captioner.START).network.state_dict()
    assert torch.equal(tuned[lower], given[lower])
    first = torch.load(tmp_path / "cross-entropy.pt", weights_only=True)
    assert torch.equal(first[upper], given[upper])
    assert not torch.equal(tuned[upper], given[upper])
    for folder in (tmp_path / "checkpoint", *(tmp_path / "stages").iterdir()):
        pipeline = Pipeline.load(folder)
        pipeline.warm_up()
    assert (tmp_path / "curves.png").stat().st_size > 1000
