"""Time of cells and fusions, beside the bare torch kernel that does the same products.

``python -m benchmarks.speed`` prints a Markdown page; ``--out FILE`` writes it.
"""

import argparse
import platform
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import models.fusion  # noqa: F401  registers the fusions
from benchmarks.bare_fusions import bare, bare_network
from benchmarks.timing import alone, interleaved
from models.cells import CELLS, CellName
from models.config import NetworkConfig
from models.network import FusionRNN
from models.registry import FUSIONS
from models.rnn import RecurrentEncoder
from models.sequence import FusionOutput, Padded, SequenceOutput, masked_mean

TARGET = 1.15
KERNELS: dict[CellName, Callable[..., nn.RNNBase]] = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
SHAPES = ((1, 64, 128, 100), (8, 128, 256, 100), (32, 256, 512, 50))
"""Rows, inputs, units and steps."""
BUNDLES = ((1, 64, 20), (16, 256, 50), (64, 512, 50))
"""Rows, size of each of three encoders' outputs, and steps."""


def main() -> None:
    """Print the page, or write it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--seconds", type=float, default=0.6, help="about how long each side of a pair is measured")
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    # Denormals, which a decaying state is full of, would measure the processor's slow path.
    torch.set_flush_denormal(True)
    with torch.no_grad():
        page = "\n".join(_page(chosen.threads, chosen.seconds)) + "\n"
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page, encoding="utf-8")


def _page(threads: int, seconds: float) -> Iterator[str]:
    yield "# Speed of cells and fusions\n"
    yield f"    .venv/bin/python -m benchmarks.speed {' '.join(sys.argv[1:])}\n"
    yield _paragraph(
        f"Medians of calls measured in turn, float32, no gradient, {threads} thread{'s'[: threads != 1]}, torch "
        f"{torch.__version__.partition('+')[0]}, {_processor()}. On the CPU it is the process's own time that counts. "
        f"The ratio is the median of the neighbours' ratios; the target is at most {TARGET}, "
        "and what misses it is in bold."
    )
    for device in ("cpu", "cuda"):
        yield f"## {'CPU' if device == 'cpu' else 'GPU'}\n"
        if device == "cuda" and not torch.cuda.is_available():
            yield "Not measured: torch saw no GPU."
            continue
        yield from _cells(device, seconds)
        yield from _fusions(device, seconds)
        yield from _networks(device, seconds)


def _cells(device: str, seconds: float) -> Iterator[str]:
    yield _paragraph(
        "`RecurrentEncoder` against `nn.RNN`, `nn.GRU` or `nn.LSTM` of the same sizes, packed where rows are padded. "
        "The encoder also pools and hands on each row's state. A step goes through `step`, as a stream does; the "
        "last column is the textbook cell in a Python loop over the sequence."
    )
    yield "| cell | rows | inputs | units | steps | what | encoder, ms | kernel, ms | ratio | literal cell, ms |"
    yield "|---|---:|---:|---:|---:|---|---:|---:|---:|---:|"
    for name, kind in KERNELS.items():
        for rows, inputs, units, steps in SHAPES:
            encoder = RecurrentEncoder(inputs, units, cell=name).to(device).eval()
            kernel = kind(inputs, units, batch_first=True).to(device).eval()
            cell = CELLS[name](inputs, units).to(device).eval()
            for what, ours, kernels, literal in _calls(encoder, kernel, cell, rows, inputs, steps, device):
                pair = interleaved(ours, kernels, device=device, seconds=seconds)
                slow = "" if literal is None else f"{1e3 * alone(literal, device=device, seconds=seconds / 2):.3g}"
                length = 1 if what == "step" else steps
                yield (
                    f"| {name} | {rows} | {inputs} | {units} | {length} | {what} | {1e3 * pair.ours:.3g} | "
                    f"{1e3 * pair.bare:.3g} | {_marked(pair.ratio)} | {slow} |"
                )
    yield ""


Calls = Iterator[tuple[str, Callable[[], object], Callable[[], object], Callable[[], object] | None]]


def _calls(
    encoder: RecurrentEncoder, kernel: nn.RNNBase, cell: nn.Module, rows: int, inputs: int, steps: int, device: str
) -> Calls:
    x = torch.randn(rows, steps, inputs, device=device)
    full = torch.full((rows,), steps, device=device)
    state = encoder.initial_state(rows, torch.device(device))
    given = tuple(value.unsqueeze(0) for value in state.values())
    initial = given if len(given) > 1 else given[0]

    def loop() -> None:
        now = {name.rstrip("0"): value for name, value in state.items()}
        for step in x.unbind(1):
            now = cell(step, now)

    yield "sequence", partial(encoder, x, full), partial(kernel, x, initial), loop
    if rows > 1:
        lengths = torch.linspace(steps, steps // 4, rows).long()
        on_device = lengths.to(device)

        def packed() -> Tensor:
            sequence = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            padded: Tensor = nn.utils.rnn.pad_packed_sequence(kernel(sequence, initial)[0], batch_first=True)[0]
            return padded

        yield "padded", partial(encoder, x, on_device), packed, None
    one = x[:, :1].contiguous()
    yield "step", partial(encoder.step, one, state), partial(kernel, one, initial), None


def _fusions(device: str, seconds: float) -> Iterator[str]:
    yield _paragraph(
        "Fusions of three modalities, all there, against the same arithmetic written straight in torch for rows that "
        "lack nothing (`benchmarks/bare_fusions.py`): no check of what is present, no masks, torch's own LSTM or "
        "`lstm_cell`. Both come to the same result, which is checked. Contributions are worked out on request; the "
        "last column is a call that asks for them."
    )
    yield "| fusion | rows | size | steps | fusion, ms | bare, ms | ratio | more, µs | with contributions, ms |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name, config in fusion_configs().items():
        for rows, size, steps in BUNDLES:
            sizes = dict.fromkeys(("audio", "text", "video"), size)
            fusion = FUSIONS.build(FUSIONS.parse(config), sizes).to(device).eval()
            inputs = {modality: _output(rows, size, steps, device) for modality in sizes}
            present = torch.ones(rows, 3, dtype=torch.bool, device=device)
            ours = partial(fusion, inputs, present)
            straight = bare(config["type"], fusion, inputs)
            torch.testing.assert_close(ours().fused, straight(), atol=1e-4, rtol=1e-3)
            pair = interleaved(ours, straight, device=device, seconds=seconds)
            explained = alone(partial(_explained, ours), device=device, seconds=seconds / 2)
            yield (
                f"| {name} | {rows} | {size} | {steps} | {1e3 * pair.ours:.3g} | {1e3 * pair.bare:.3g} | "
                f"{_marked(pair.ratio)} | {1e6 * (pair.ours - pair.bare):.0f} | {1e3 * explained:.3g} |"
            )
    yield ""
    yield _paragraph(
        "A fusion of pooled vectors takes a fraction of a millisecond, and what it loses to the straight form at a few "
        "rows is Python, some tens of microseconds a call whatever the sizes: the module's call, finding each "
        "modality's layer by its name, one look at what is present, and the output's fields."
    )


def _networks(device: str, seconds: float) -> Iterator[str]:
    yield _paragraph(
        "The same fusions where they stand, between three recurrent encoders of their sequences (LSTM, as many units "
        "as inputs, mean-pooled where the fusion reads pooled vectors) and a linear head of ten outputs: "
        "`FusionRNN.encode` and its head against `nn.LSTM`, the straight fusion and `nn.Linear`."
    )
    yield "| fusion | rows | size | steps | network, ms | bare, ms | ratio |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for fusion, config in fusion_configs().items():
        for rows, size, steps in BUNDLES:
            network = fusion_network(config, size).to(device).eval()
            lengths = torch.full((rows,), steps, device=device)
            names: list[str] = list(network.modalities)
            given = {name: Padded(torch.randn(rows, steps, size, device=device), lengths) for name in names}
            ours = partial(_answer, network, given)
            straight = partial(bare_network(network, rows), [given[name].values for name in names])
            torch.testing.assert_close(ours(), straight(), atol=1e-4, rtol=1e-3)
            pair = interleaved(ours, straight, device=device, seconds=seconds)
            yield (
                f"| {fusion} | {rows} | {size} | {steps} | {1e3 * pair.ours:.3g} | {1e3 * pair.bare:.3g} | "
                f"{_marked(pair.ratio)} |"
            )
    yield ""
    yield _paragraph(
        "What one row of a small network loses to the straight form is Python again, which the sizes do not change."
    )


def fusion_network(config: dict[str, Any], size: int) -> FusionRNN:
    """Three recurrent encoders of vectors of ``size`` numbers, a fusion, and ten outputs."""
    encoder = {"type": "vectors-rnn", "size": size, "hidden": size, "cell": "lstm", "normalize": False}
    decides = config["type"] == "decision"
    head = {"type": "decision", "outputs": 10} if decides else {"type": "classification", "classes": 10}
    return FusionRNN(
        NetworkConfig.model_validate(
            {"encoders": dict.fromkeys(("audio", "text", "video"), encoder), "fusion": config, "head": head}
        )
    )


def _answer(network: FusionRNN, given: Mapping[str, Padded]) -> Tensor:
    answer: Tensor = network.head(network.encode(given))
    return answer


def _explained(call: Callable[[], FusionOutput]) -> Tensor:
    return call().contributions


def fusion_configs() -> dict[str, dict[str, Any]]:
    """Every way in which every registered fusion works, by a name for the page."""
    modes = {
        "decision": ("combine", ["mean", "weighted", "product", "stacked"]),
        "tensor": ("mode", ["full", "low-rank"]),
    }
    modes["weighted-sum"] = ("mode", ["fixed", "learned", "gated"])
    more: dict[str, dict[str, Any]] = {"decision": {"outputs": 10}, "concat": {"width": 128}}
    found: dict[str, dict[str, Any]] = {}
    for kind in FUSIONS.names():
        key, values = modes.get(kind, ("type", [kind]))
        for value in values:
            found[kind if key == "type" else f"{kind}, {value}"] = {"type": kind, key: value} | more.get(kind, {})
    return found


def _output(rows: int, size: int, steps: int, device: str) -> SequenceOutput:
    sequence = torch.randn(rows, steps, size, device=device)
    lengths = torch.full((rows,), steps, device=device)
    return SequenceOutput(sequence, lengths, masked_mean(sequence, lengths))


def _marked(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio <= TARGET else f"**{ratio:.2f}**"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120) + "\n"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
