"""``models verify`` finds networks whose answer to one request depends on the others in its batch."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.invariance import faults
from models.pipeline import Pipeline
from models.registry import ENCODERS, EncoderConfig, Registry
from models.sequence import SequenceOutput
from tests.models.tasks.checkpoints import described, pipeline
from tests.support import tiny_captioner

CLASSES = {"type": "classification", "classes": 3}


@pytest.fixture
def two() -> Pipeline:
    return pipeline(described("classification", CLASSES, "audio", "image", labels=["a", "b", "c"]))


class LastStep(nn.Module):
    """Takes the last step that there is, real or not."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 8, batch_first=True)
        self.output_size = 8

    def forward(self, x: Tensor, lengths: Tensor, state: Any = None) -> SequenceOutput:
        sequence, _ = self.rnn(x)
        return SequenceOutput(sequence, lengths, sequence[:, -1])


class NeedsAll(LastStep):
    """The textbook's packing, which takes no row without a step."""

    def forward(self, x: Tensor, lengths: Tensor, state: Any = None) -> SequenceOutput:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        sequence, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, 8)
        return SequenceOutput(sequence, lengths, sequence.gather(1, last)[:, 0])


class BothWays(LastStep):
    """Its backward direction begins in the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor, state: Any = None) -> SequenceOutput:
        sequence, _ = self.rnn(x)
        return SequenceOutput(sequence, lengths, sequence[:, 0])


def test_a_sound_network_has_none(two: Pipeline) -> None:
    assert list(faults(two)) == []


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (LastStep(), "what the encoder of audio pools changes by"),
        (BothWays(), "the sequence of the encoder of audio changes by"),
        (NeedsAll(), "it fails when another one in its batch has audio and it has none: RuntimeError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_is_wrong_is_named(two: Pipeline, encoder: nn.Module, said: str) -> None:
    torch.manual_seed(0)
    two.network.encoders["audio"] = encoder.eval()
    assert said in next(iter(faults(two)))


class OfTheBatch(nn.Module):
    """Reads how far the rows of its batch are apart."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.output_size = inner, inner.output_size

    def forward(self, x: Tensor, lengths: Tensor, state: Any = None) -> SequenceOutput:
        output = self.inner(x, lengths, state)
        apart = (x.float() - x.float().mean(0)).abs().mean()
        return SequenceOutput(output.sequence, output.lengths, output.pooled + apart)


def test_pictures_and_words_differ_from_one_row_to_the_next(tmp_path: Path) -> None:
    captioner = Pipeline.load(tiny_captioner(tmp_path / "captioner"), runtime="torch")
    assert list(faults(captioner)) == []
    captioner.network.encoders["image"] = OfTheBatch(captioner.network.encoders["image"]).eval()
    assert "what the encoder of image pools changes by" in next(iter(faults(captioner)))
    reader = pipeline(described("classification", CLASSES, "text", labels=["a", "b", "c"]))
    reader.network.encoders["text"] = OfTheBatch(reader.network.encoders["text"]).eval()
    assert "what the encoder of text pools changes by" in next(iter(faults(reader)))


def test_the_example_in_the_documentation_keeps_the_rules(two: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = re.search(r"## Your own network.*?```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    mine: Registry[nn.Module, EncoderConfig] = Registry("encoder", EncoderConfig)
    monkeypatch.setattr("models.registry.ENCODERS", mine)
    names: dict[str, Any] = {"__name__": __name__}
    exec(found[1], names)
    assert "my-encoder" not in ENCODERS.names()
    two.network.encoders["audio"] = mine.build(names["MyConfig"](hidden=8)).eval()
    assert list(faults(two)) == []
