import pytest
import torch

from models.fusion.alignment import Alignment, Interpolation, common_lengths, resample
from tests.models.fusion.examples import everything, outputs


def read(values: list[float], steps: int, interpolation: Interpolation) -> list[float]:
    sequence = torch.tensor(values, dtype=torch.float32).view(1, -1, 1)
    return (
        resample(sequence, torch.tensor([len(values)]), torch.tensor([steps]), steps, interpolation).flatten().tolist()
    )


def test_nearest_repeats_each_step_for_as_long_as_it_lasts() -> None:
    assert read([1, 2], 4, "nearest") == [1, 1, 2, 2]
    assert read([1, 2], 5, "nearest") == [1, 1, 2, 2, 2]  # the middle of five lies just where the second begins
    assert read([1, 2, 3], 3, "nearest") == [1, 2, 3]
    assert read([7], 3, "nearest") == [7, 7, 7]


def test_linear_runs_from_centre_to_centre() -> None:
    assert read([0, 4], 4, "linear") == [0, 1, 3, 4]
    assert read([1, 2, 3], 3, "linear") == [1, 2, 3]
    assert read([7], 3, "linear") == [7, 7, 7]


def test_fewer_steps_than_there_are_pick_evenly() -> None:
    assert read([0, 1, 2, 3, 4, 5], 3, "nearest") == [1, 3, 5]
    assert read([0, 1, 2, 3, 4, 5], 3, "linear") == [0.5, 2.5, 4.5]


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_equal_lengths_are_left_as_they_are_however_long(interpolation: Interpolation) -> None:
    sequence = torch.randn(1, 30_001, 1)
    length = torch.tensor([30_001])
    assert torch.equal(resample(sequence, length, length, 30_001, interpolation), sequence)


def test_the_longest_present_sequence_of_a_row_counts_its_steps() -> None:
    inputs = outputs({"audio": [5, 5], "text": [2, 3]})
    present = torch.tensor([[True, True], [False, True]])
    assert common_lengths(inputs, present).tolist() == [5, 3]


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_padding_and_batch_mates_are_not_read(interpolation: Interpolation) -> None:
    align = Alignment({"audio": 3, "text": 4}, interpolation)
    torch.nn.init.normal_(align.absent["audio"])
    together = outputs({"audio": [7, 2, 0], "text": [3, 5, 4]})
    steps = align(together, everything(together))
    assert steps.lengths.tolist() == [7, 5, 4]
    for row in range(3):
        alone = {
            name: type(output)(
                output.sequence[row : row + 1, : max(1, int(output.lengths[row]))],
                output.lengths[row : row + 1],
                output.pooled[row : row + 1],
            )
            for name, output in together.items()
        }
        single = align(alone, everything(alone))
        for whole, part in zip(steps.values, single.values, strict=True):
            assert torch.equal(whole[row : row + 1, : int(steps.lengths[row])], part)
    assert torch.equal(steps.values[0][2, 1], align.absent["audio"])
