"""Promises that every network keeps, whatever it is composed of.

Nothing here names a part: all that is registered is tested in each way in which it says it can work (``variants``). A
network is encoders, a fusion and a head, which meet only in ``SequenceOutput`` and ``FusionOutput``. So encoders and
fusions are first tested alone, where the hostile cases are, and then every combination of the three as a network.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from itertools import accumulate, product
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import models.network  # noqa: F401  it registers the parts
from models.checkpoint import load_checkpoint, save_checkpoint
from models.config import CheckpointConfig, NetworkConfig, Task
from models.encoded import Encoded
from models.features import FEATURES, Features, Modality
from models.features.text import TextTokenizer
from models.heads import Embeddings
from models.network import FusionRNN
from models.pooling import Pooling
from models.registry import ENCODERS, FUSIONS, HEADS, ComponentConfig, EncoderConfig, FusionConfig, Registry
from models.sequence import FusionOutput, Padded, SequenceOutput, absent, full_lengths
from tests.elsewhere import ELSEWHERE, OnTheDevice
from tests.models.fusion.examples import SIZES, everything, outputs

TOKENIZER = TextTokenizer.build(["word", *"abcdefg"], ["en"])


def variants(registry: Registry[nn.Module, Any]) -> list[Any]:
    """Every way in which every registered part works; whatever has a vocabulary has this tokenizer's."""
    found = [config for name in registry.names() for config in registry.config(name).variants()]
    return [
        type(config).model_validate(config.model_dump() | {"vocabulary": TOKENIZER.size})
        if hasattr(config, "vocabulary")
        else config
        for config in found
    ]


def named(config: ComponentConfig) -> str:
    """A readable id: the type, and the choices that differ from the defaults."""
    chosen = config.model_dump(exclude_defaults=True, exclude={"type"})
    words = [str(value) if isinstance(value, str) else name for name, value in chosen.items() if not is_size(value)]
    return "-".join([config.type, *words])


def is_size(value: object) -> bool:
    return not isinstance(value, str | bool)


ENCODER, FUSION, HEAD = variants(ENCODERS), variants(FUSIONS), variants(HEADS)
each_encoder = pytest.mark.parametrize("encoder", ENCODER, ids=named)
each_fusion = pytest.mark.parametrize("fusion", FUSION, ids=named)
each_head = pytest.mark.parametrize("head", HEAD, ids=named)


# What parts are given


def features_of(encoder: EncoderConfig) -> Features:
    kind = encoder.reads[0] if encoder.reads else FEATURES.names()[0]
    found = FEATURES.config(kind).tiny()
    assert isinstance(found, Features)
    return found


@cache
def material(encoder: EncoderConfig) -> list[Tensor]:
    """What the encoder reads: two random rows, a blank one (silence, grey), one step of it, zeros, and random again."""
    features = features_of(encoder)
    blank = features.extract(features.blank(), TOKENIZER)
    generator = torch.Generator().manual_seed(0)

    def random(steps: int) -> Tensor:
        shape = (steps, *blank.shape[1:])
        if blank.is_floating_point():
            return torch.randn(shape, generator=generator)
        most = TOKENIZER.size if blank.dtype == torch.int64 else 256
        return torch.randint(0, most, shape, generator=generator, dtype=blank.dtype)

    long = 3 if blank.ndim == 4 else 9  # a picture costs more, and may become many steps
    return [random(long), random(2), blank[:6], blank[:1], torch.zeros_like(blank[:2]), random(3)]


def padded(rows: Sequence[Tensor | None]) -> Padded:
    """The rows in one batch, with loud values where there is padding, and in rows that are absent."""
    some = next(row for row in rows if row is not None)
    lengths = torch.tensor([0 if row is None else len(row) for row in rows])
    loud = 1e3 if some.is_floating_point() else TOKENIZER.size - 1 if some.dtype == torch.int64 else 255
    values = torch.full((len(rows), int(lengths.max()) + 1, *some.shape[1:]), loud, dtype=some.dtype)
    for index, row in enumerate(rows):
        if row is not None:
            values[index, : len(row)] = row
    return Padded(values, lengths)


FIRST, SECOND, BOTH = 1, 5, 0
"""Rows of ``material``: the first modality alone has row 1, the second alone row 5, and both have the others."""


def rows_of(encoder: EncoderConfig, place: int) -> list[Tensor | None]:
    """The batch of the first (0) or second (1) modality."""
    missing = (SECOND, FIRST)[place]
    return [None if index == missing else row for index, row in enumerate(material(encoder))]


@cache
def built(encoder: EncoderConfig) -> nn.Module:
    torch.manual_seed(0)
    return ENCODERS.build(encoder).eval()


@cache
def encoded(encoder: EncoderConfig, place: int, row: int | None = None) -> SequenceOutput:
    """The encoder's output for the batch of a modality, or for one of its rows alone."""
    rows = rows_of(encoder, place)
    batch = padded(rows if row is None else [rows[row]])
    with torch.no_grad():
        output: SequenceOutput = built(encoder)(batch.values, batch.lengths)
    return output


CHUNKS = {steps: ([steps], [1] * steps, [1, 0, steps - 1]) for steps in (3, 6, 9)}
"""Ways to cut so many steps."""


def spans(chunks: list[int]) -> list[slice]:
    ends = list(accumulate(chunks))
    return [slice(end - size, end) for end, size in zip(ends, chunks, strict=True)]


CAUSAL = [encoder for encoder in ENCODER if getattr(built(encoder), "causal", False)]


def in_turn(encoders: list[Any], fusion: FusionConfig, head: ComponentConfig) -> EncoderConfig:
    """An encoder for each pair of the other two, where there would be too many of all three."""
    chosen: EncoderConfig = encoders[(FUSION.index(fusion) + HEAD.index(head)) % len(encoders)]
    return chosen


def tiny(registry: Registry[nn.Module, Any]) -> list[Any]:
    """Every registered part once."""
    seen = {config.type: config for config in reversed(variants(registry))}
    return list(seen.values())


# Encoders


@each_encoder
def test_encoder_sees_neither_padding_nor_batch_mates_and_is_finite(encoder: EncoderConfig) -> None:
    together = encoded(encoder, 0)
    assert together.sequence.isfinite().all()
    assert together.pooled.shape == (6, built(encoder).output_size)
    assert int(together.lengths[SECOND]) == 0
    assert together.pooled[SECOND].isfinite().all()
    for row in range(5):
        alone, steps = encoded(encoder, 0, row), int(together.lengths[row])
        assert int(alone.lengths[0]) == steps > 0
        close(together.sequence[row, :steps], alone.sequence[0, :steps])
        close(together.pooled[row], alone.pooled[0])


@each_encoder
def test_encoder_starts_again_where_a_chunk_ended(encoder: EncoderConfig) -> None:
    part: Any = built(encoder)
    x = material(encoder)[0].unsqueeze(0)
    if not hasattr(part, "step"):
        assert not getattr(part, "causal", False)
        return
    steps = x.shape[1]
    lengths = torch.tensor([steps])
    if not part.causal:
        with pytest.raises(ValueError, match="whole sequence"):
            part(x, lengths, part.initial_state(1))
        return
    whole = part(x, lengths)
    for chunks in ([1] * steps, [2, steps - 2], [steps - 1, 1]):
        state, found = part.initial_state(1), []
        for chunk in torch.split(x, chunks, 1):
            output, state = part.step(chunk, state)
            found.append(output)
        close(torch.cat(found, 1), whole.sequence)


each_precision = pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])


@each_precision
@each_encoder
def test_encoder_computes_in_the_precision_of_its_weights(encoder: EncoderConfig, precision: torch.dtype) -> None:
    part: Any = deepcopy(built(encoder)).to(precision)
    batch = padded(rows_of(encoder, 0))
    values = batch.values.to(precision) if batch.values.is_floating_point() else batch.values
    output = part(values, batch.lengths)
    assert output.sequence.dtype == output.pooled.dtype == precision
    assert output.pooled.isfinite().all()
    if precision == torch.float64:
        torch.testing.assert_close(output.pooled.float(), encoded(encoder, 0).pooled, atol=1e-4, rtol=1e-3)
    if getattr(part, "causal", False):
        steps = values[:1, : int(batch.lengths[0])]
        assert part.step(steps, part.initial_state(1))[0].dtype == precision


# Fusions


@each_fusion
def test_fusion_sees_neither_padding_nor_batch_mates_nor_what_is_absent(fusion: FusionConfig) -> None:
    part = made(FUSIONS, fusion, SIZES)
    inputs = fusion_inputs(fusion)
    present = everything(inputs)
    together = part(spoiled(inputs), present)
    assert together.fused.shape == (3, part.output_size)
    close(together.contributions.sum(1), torch.ones(3))
    assert (together.contributions[~present] == 0).all()
    assert (together.contributions[present] > 0).all()
    for row in range(3):
        alone = part({name: row_alone(output, row) for name, output in inputs.items()}, present[row : row + 1])
        same_fusion(together, alone, row, present)


@each_fusion
def test_fusion_goes_on_where_a_chunk_ended(fusion: FusionConfig) -> None:
    part = made(FUSIONS, fusion, SIZES)
    assert fusion.stepwise == hasattr(part, "sequence_size")
    if not getattr(part, "causal", False):
        return
    steps = 6
    inputs = outputs({"audio": [steps, steps], "text": [steps, steps], "video": [0, steps]})
    present = everything(inputs)
    whole = part(inputs, present)
    for chunks in CHUNKS[steps]:
        state = part.initial_state(2)
        pooling = {name: Pooling("mean", size) for name, size in SIZES.items()}
        pooled = {name: each.initial_state(2) for name, each in pooling.items()}
        found = []
        for chunk in spans(chunks):
            heard = {}
            for name, output in inputs.items():
                sequence = output.sequence[:, chunk]
                mean, pooled[name] = pooling[name].step(sequence, pooled[name])
                heard[name] = SequenceOutput(sequence, full_lengths(sequence), mean)
            last, state = part.step(heard, present, state)
            found.append(last)
            assert all(len(value) == 2 for value in state.values()), "each tensor of a state begins with the row"
        close(last.fused, whole.fused)
        close(last.contributions, whole.contributions)
        if whole.sequence is not None:
            close(torch.cat([each.sequence.sequence for each in found], 1), whole.sequence.sequence)
        if whole.votes is not None:
            close(last.votes[present], whole.votes[present])


@each_precision
@each_fusion
def test_fusion_computes_in_the_precision_of_its_weights(fusion: FusionConfig, precision: torch.dtype) -> None:
    part = made(FUSIONS, fusion, SIZES)
    inputs = fusion_inputs(fusion)
    present = everything(inputs)
    wanted = part(inputs, present).fused
    given = {
        name: SequenceOutput(output.sequence.to(precision), output.lengths, output.pooled.to(precision))
        for name, output in inputs.items()
    }
    found = deepcopy(part).to(precision)(given, present)
    assert found.fused.dtype == precision
    assert found.contributions.isfinite().all()
    if precision == torch.float64:
        torch.testing.assert_close(found.fused.float(), wanted, atol=1e-5, rtol=1e-4)


@each_fusion
def test_fusion_of_nothing_is_refused(fusion: FusionConfig) -> None:
    inputs = fusion_inputs(fusion)
    present = everything(inputs)
    present[1] = False
    with pytest.raises(ValueError, match="a row has no modality"):
        made(FUSIONS, fusion, SIZES)(inputs, present)


@each_fusion
def test_fusion_teaches_all_its_parameters_and_nothing_from_what_is_absent(fusion: FusionConfig) -> None:
    part = made(FUSIONS, fusion, SIZES)
    inputs = fusion_inputs(fusion)
    output = part(spoiled(inputs), everything(inputs))
    scalar(output.fused).backward()  # type: ignore[no-untyped-call]
    # The random rows lack audio and video in turn, but never text.
    assert untaught(part) <= {"absent.text", "align.absent.text"}


@each_fusion
def test_fusion_drops_out_in_training_only(fusion: FusionConfig) -> None:
    if not hasattr(fusion, "dropout"):
        return
    part = made(FUSIONS, fusion.model_copy(update={"dropout": 0.5}), SIZES)
    inputs = fusion_inputs(fusion)
    present = everything(inputs)
    assert torch.equal(part(inputs, present).fused, part(inputs, present).fused)
    part.train()
    assert not torch.equal(part(inputs, present).fused, part(inputs, present).fused)


@each_fusion
def test_fusion_of_a_single_modality_works(fusion: FusionConfig) -> None:
    part = made(FUSIONS, fusion, {"text": 4})
    output = part(outputs({"text": [3, 1]}), torch.ones(2, 1, dtype=torch.bool))
    assert output.fused.isfinite().all()
    assert output.contributions.tolist() == [[1.0], [1.0]]


# Networks


@each_head
@each_fusion
@each_encoder
def test_network_sees_neither_padding_nor_batch_mates_nor_what_is_missing(
    encoder: EncoderConfig, fusion: FusionConfig, head: ComponentConfig
) -> None:
    network = composed_for(built(encoder).output_size, fusion, head)
    if isinstance(network, str):
        assert network, "a refusal says why"
        return
    names: list[str] = list(network.modalities)
    # Without a second modality, the last row would have nothing.
    rows = len(material(encoder)) if len(names) > 1 else SECOND
    batch = {name: first_rows(encoded(encoder, place), rows) for place, name in enumerate(names)}
    with torch.no_grad():
        together = network.fuse(batch)
        answers = answer(network, together)
        assert answers.isfinite().all()
        for row, places in ((BOTH, range(len(names))), (FIRST, [0]), (SECOND, [1])):
            if row >= rows:
                continue
            alone = network.fuse({names[place]: encoded(encoder, place, row) for place in places})
            same_fusion(together.fusion, alone.fusion, row, alone.fusion.contributions.expand(row + 1, -1) > 0)
            found = answer(network, alone)[0]
            close(answers[row][: len(found)], found)


@each_head
@each_fusion
def test_network_streams_what_it_says_in_one_go_or_says_why_not(fusion: FusionConfig, head: ComponentConfig) -> None:
    for encoder in in_turn(CAUSAL, fusion, head), in_turn(ENCODER, fusion, head):
        streams(encoder, fusion, head)


@each_encoder
def test_network_streams_with_every_encoder(encoder: EncoderConfig) -> None:
    found = [streams(encoder, fusion, head) for fusion, head in product(tiny(FUSIONS), tiny(HEADS))]
    assert any(found) == (encoder in CAUSAL)


def streams(encoder: EncoderConfig, fusion: FusionConfig, head: ComponentConfig) -> bool:
    """Whether the network can stream, and has been seen to do it rightly; or it was seen to refuse with a reason."""
    network = composed(encoder, fusion, head)
    if isinstance(network, str):
        assert network, "a refusal says why"
        return False
    reason = network.streaming_refusal()
    assert network.causal == (reason is None)
    if reason is not None:
        assert any(f"'{part.type}'" in reason for part in (encoder, fusion, head))
        with pytest.raises(ValueError, match="cannot stream"):
            network.initial_state(1)
        return False
    # The second row lacks the second modality.
    x = material(encoder)[0]
    lengths = [torch.tensor([len(x), len(x)]), torch.tensor([len(x), 0])]
    batch: dict[str, Padded] = {
        name: Padded(torch.stack([x, x.flip(0)]), count)
        for name, count in zip(network.modalities, lengths, strict=False)
    }
    present = torch.stack([padded.lengths > 0 for padded in batch.values()], 1)
    with torch.no_grad():
        wanted = answer(network, network.encode(batch))
        for chunks in CHUNKS[len(x)]:
            state, found = network.initial_state(2), []
            for chunk in spans(chunks):
                heard: dict[str, Tensor] = {name: padded.values[:, chunk] for name, padded in batch.items()}
                after, state = network.step(heard, present, state)
                found.append(answer(network, after))
            assert all(len(value) == 2 for value in state.values()), "each tensor of a state begins with the row"
            # A head answers for each step, or for everything so far.
            said = torch.cat(found, 1) if found[0].ndim > 2 else found[-1]
            close(said, wanted)
    return True


@pytest.mark.parametrize("part", [*ENCODER, *FUSION, *HEAD], ids=named)
def test_every_part_answers_learns_and_streams_alike_on_another_device(part: ComponentConfig) -> None:
    """In one network: that a tensor stays behind on the CPU is the fault of one part."""
    options: list[list[Any]] = [[part] if part in every else every for every in (ENCODER, FUSION, HEAD)]
    network = next(found for some in product(*options) if isinstance(found := composed(*some), FusionRNN))
    encoder: Any = network.config.encoders[network.modalities[0]]
    rows = 6 if len(network.modalities) > 1 else 5
    batch: dict[str, Padded] = {
        name: padded(rows_of(encoder, place)[:rows]) for place, name in enumerate(network.modalities)
    }
    expected = everything_of(network, batch)
    with OnTheDevice():
        network.to(ELSEWHERE)
        values = everything_of(network, {name: rows.to(ELSEWHERE) for name, rows in batch.items()})
    assert len(values) == len(expected)
    # Not bit-equal: some of torch's kernels for the CPU are never asked for what is elsewhere.
    for value, wanted in zip(values, expected, strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-5 * max(float(wanted.abs().max()), 1), rtol=1e-4)


def everything_of(network: FusionRNN, batch: dict[str, Padded]) -> list[Tensor]:
    """On the CPU: what a network answers, contributions, all gradients, and two steps of a stream where it can."""
    network.zero_grad()
    after = network.encode(batch)
    said = answer(network, after)
    scalar(torch.cat([said.flatten(), after.fusion.fused.flatten()])).backward()  # type: ignore[no-untyped-call]
    found = [said, after.fusion.contributions, *(part.grad for part in network.parameters() if part.grad is not None)]
    if network.causal:
        steps: dict[str, Tensor] = {name: rows.values[:1, :3] for name, rows in batch.items()}
        present = torch.ones(1, len(steps), dtype=torch.bool, device=network.device)
        state = network.initial_state(1, network.device)
        with torch.no_grad():
            for _ in range(2):
                after, state = network.step(steps, present, state)
                found += [answer(network, after), *state.values()]
    return [value.detach().cpu() for value in found]


@each_head
@each_fusion
def test_network_teaches_all_its_parameters_and_survives_a_checkpoint(
    fusion: FusionConfig, head: ComponentConfig, tmp_path: Path
) -> None:
    # One encoder in turn: encoders have been taught and combined above, and a checkpoint treats all alike.
    encoder = in_turn(ENCODER, fusion, head)
    network = composed(encoder, fusion, head)
    if isinstance(network, str):
        assert network, "a refusal says why"
        return
    names: list[str] = list(network.modalities)
    rows = 6 if len(names) > 1 else 5
    batch = {name: padded(rows_of(encoder, place)[:rows]) for place, name in enumerate(names)}
    after = network.encode(batch)
    reached = [answer(network, after), after.fusion.fused, *(output.pooled for output in after.outputs.values())]
    scalar(torch.cat([part.flatten() for part in reached])).backward()  # type: ignore[no-untyped-call]
    # Where there is nothing to choose between, the choice of a fusion is not taught.
    spared = {name for name in untaught(network) if len(names) == 1 and name.startswith("fusion.")}
    assert untaught(network) == spared
    assert all(part.grad is not None for name, part in network.named_parameters() if name not in spared)

    save_checkpoint(tmp_path, checkpoint_config(network), network, TOKENIZER, dtype=torch.float32)
    loaded = load_checkpoint(tmp_path).network
    stored = loaded.state_dict()
    assert stored.keys() == network.state_dict().keys()
    assert all(torch.equal(stored[name], value) for name, value in network.state_dict().items())
    # Not bit-equal: matrix products may round differently where weights lie elsewhere in memory.
    close(answer(loaded, loaded.encode(batch)), answer(network, network.encode(batch)))


def test_every_part_is_in_a_network() -> None:
    """So that no combination above was left out because a part refuses all others."""
    left_out = []
    for place, configs in enumerate((ENCODER, FUSION, HEAD)):
        for config in configs:
            parts: list[list[Any]] = [ENCODER[:1], FUSION, HEAD]
            parts[place] = [config]
            if all(isinstance(composed(*some), str) for some in product(*parts)):
                left_out.append(named(config))
    assert left_out == []


# How parts are asked and compared


def composed(encoder: EncoderConfig, fusion: FusionConfig, head: ComponentConfig) -> FusionRNN | str:
    """A network of two modalities, or of the one that its parts insist on; or why there is none."""
    refusals = []
    for names in [("audio", "text"), *((name,) for name in get_args(Modality))]:
        torch.manual_seed(0)
        try:
            encoders = dict.fromkeys(names, encoder)
            return FusionRNN(
                NetworkConfig.model_validate({"encoders": encoders, "fusion": fusion, "head": head})
            ).eval()
        except ValueError as error:
            refusals.append(str(error))
    return refusals[0]


@cache
def composed_for(size: int, fusion: FusionConfig, head: ComponentConfig) -> FusionRNN | str:
    """A network for the outputs of any encoder of a size, which is all of an encoder that the other parts can tell."""
    return composed(next(encoder for encoder in ENCODER if built(encoder).output_size == size), fusion, head)


def answer(network: FusionRNN, after: Encoded) -> Tensor:
    """What the head says of each row: the one place that knows how heads are asked. [B, ...]."""
    head: Any = network.head
    rows = len(after.fusion.fused)
    if hasattr(head, "remember"):  # it writes step by step
        device = after.fusion.fused.device
        memory = head.remember(after, torch.zeros(rows, dtype=torch.int64, device=device))
        state, said = head.initial_state(after.fusion.fused), []
        for token in (TOKENIZER.start("en"), TOKENIZER.end):
            scores, state, _ = head.step(torch.full((rows, 1), token, device=device), state, memory)
            said.append(scores)
        return torch.cat(said, 1)
    output = head(after)
    if isinstance(output, Embeddings):
        nothing = torch.zeros_like(next(iter(output.vectors.values())))
        vectors = [
            output.vectors[name] * output.present[name].unsqueeze(1) if name in output.vectors else nothing
            for name in sorted({*network.modalities, *output.vectors})
        ]
        return torch.cat(vectors, 1) * output.scale
    assert isinstance(output, Tensor), f"answer() does not know what a {type(output).__name__} says"
    return output


def checkpoint_config(network: FusionRNN) -> CheckpointConfig:
    """The description of a checkpoint for a network, whichever task its head is for."""
    head = network.config.head.model_dump()
    counts = sorted({value for value in head.values() if isinstance(value, int) and value > 1})
    labels = [None, *([str(label) for label in range(count)] for count in counts)]
    errors = []
    for task, named_labels, defaults in product(get_args(Task), labels, ({}, {"seconds_per_step": 0.1})):
        description = {
            "name": "tiny",
            "version": "0.0.1",
            "task": task,
            "description": "Random weights.",
            "modalities": {name: {"features": features_of(config)} for name, config in network.config.encoders.items()},
            "network": network.config,
            "labels": named_labels,
            "defaults": defaults,
        }
        try:
            return CheckpointConfig.model_validate(description)
        except ValueError as error:
            errors.append(str(error))
    raise AssertionError("\n".join(errors))


def made(registry: Registry[nn.Module, Any], config: ComponentConfig, *args: Any) -> Any:
    torch.manual_seed(0)
    part = registry.build(config, *args)
    for name, parameter in part.named_parameters():
        if "absent" in name:  # learned, so it is not where it started
            nn.init.normal_(parameter)
    return part.eval()


def fusion_inputs(fusion: FusionConfig) -> dict[str, SequenceOutput]:
    """Three rows of three modalities, of lengths as different as the fusion allows."""
    if fusion.paired:
        return outputs({"audio": [5, 4, 0], "text": [5, 4, 2], "video": [5, 0, 2]})
    return outputs({"audio": [5, 2, 0], "text": [3, 4, 2], "video": [1, 0, 6]})


def spoiled(inputs: dict[str, SequenceOutput]) -> dict[str, SequenceOutput]:
    """The same with one step more of padding, and NaN in all padding and in absent rows."""
    bad = {}
    for name, output in inputs.items():
        sequence = torch.cat([output.sequence, output.sequence[:, :1]], 1)
        real = torch.arange(sequence.shape[1]) < output.lengths.unsqueeze(1)
        sequence = sequence.masked_fill(~real.unsqueeze(2), float("nan"))
        pooled = output.pooled.masked_fill((output.lengths == 0).unsqueeze(1), float("nan"))
        bad[name] = SequenceOutput(sequence, output.lengths, pooled)
    return bad


def row_alone(output: SequenceOutput, row: int) -> SequenceOutput:
    """One row without its padding; a modality that it lacks as a network passes it on."""
    here = slice(row, row + 1)
    if not int(output.lengths[row]):
        return absent(
            SequenceOutput(output.sequence[here], output.lengths[here], output.pooled[here]), output.pooled.shape[1]
        )
    return SequenceOutput(output.sequence[here, : int(output.lengths[row])], output.lengths[here], output.pooled[here])


def first_rows(output: SequenceOutput, rows: int) -> SequenceOutput:
    return SequenceOutput(output.sequence[:rows], output.lengths[:rows], output.pooled[:rows])


def same_fusion(together: FusionOutput, alone: FusionOutput, row: int, present: Tensor) -> None:
    """Row ``row`` of a batch is what it is alone; of votes only those of ``present`` [B, M] mean anything."""
    close(together.fused[row], alone.fused[0])
    close(together.contributions[row], alone.contributions[0])
    assert (together.sequence is None) == (alone.sequence is None)
    if together.sequence is not None and alone.sequence is not None:
        steps = int(alone.sequence.lengths[0])
        assert int(together.sequence.lengths[row]) == steps
        close(together.sequence.sequence[row, :steps], alone.sequence.sequence[0, :steps])
        close(together.sequence.pooled[row], alone.sequence.pooled[0])
    if together.votes is not None and alone.votes is not None:
        close(together.votes[row][present[row]], alone.votes[0][present[row]])


def untaught(part: nn.Module) -> set[str]:
    """Parameters whose gradient is missing or zero; none may be infinite."""
    gradients = {name: parameter.grad for name, parameter in part.named_parameters()}
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients.values())
    return {name for name, gradient in gradients.items() if gradient is None or not gradient.any()}


def scalar(values: Tensor) -> Tensor:
    """One number that depends on every value, and differently on each."""
    generator = torch.Generator().manual_seed(1)
    return (values * torch.randn(values.shape, generator=generator).to(values.device)).sum()


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
