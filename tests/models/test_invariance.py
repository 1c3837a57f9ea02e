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
from models.registry import ENCODERS, Registry
from models.sequence import SequenceOutput
from tests.models.tasks.checkpoints import described, pipeline

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


def test_the_example_in_the_documentation_keeps_the_rules(two: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = re.search(r"## Your own network.*?```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    mine: Registry[nn.Module] = Registry("encoder")
    monkeypatch.setattr("models.registry.ENCODERS", mine)
    names: dict[str, Any] = {"__name__": __name__}
    exec(found[1], names)
    assert "my-encoder" not in ENCODERS.names()
    two.network.encoders["audio"] = mine.build(names["MyConfig"](hidden=8)).eval()
    assert list(faults(two)) == []
