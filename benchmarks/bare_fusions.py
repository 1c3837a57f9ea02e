"""The arithmetic of each fusion written straight in torch: for rows that lack nothing, and without contributions.

Each function takes a fusion and the number of rows, and gives a call that uses its weights, so both must come to the
same result.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network import FusionRNN
from models.sequence import SequenceOutput

Tensors = list[Tensor]
Call = Callable[[Tensors], Tensor]


def bare(kind: str, fusion: Any, inputs: dict[str, SequenceOutput]) -> Callable[[], Tensor]:
    """The ``fused`` [B, F] of a fusion of the type ``kind``, by the shortest way."""
    names = sorted(inputs)
    stepwise = kind in _STEPWISE
    given = [inputs[name].sequence if stepwise else inputs[name].pooled for name in names]
    return partial(_FUSIONS[kind](fusion, names, len(given[0])), given)


def bare_network(network: FusionRNN, rows: int) -> Callable[[Tensors], Tensor]:
    """What a network of three ``vectors-rnn`` encoders answers to ``rows`` rows of vectors [B, T, D]."""
    names: list[str] = list(network.modalities)
    kernels = [_kernel(network.encoders[name].rnn) for name in names]
    kind = network.config.fusion.type
    fuse, pooled = _FUSIONS[kind](network.fusion, names, rows), kind not in _STEPWISE
    head: Any = getattr(network.head, "output", nn.Identity())

    def call(values: Tensors) -> Tensor:
        read = [kernel(x)[0] for kernel, x in zip(kernels, values, strict=True)]
        answer: Tensor = head(fuse([x.mean(1) for x in read] if pooled else read))
        return answer

    return call


def concat(fusion: Any, names: list[str], rows: int) -> Call:  # noqa: ARG001
    weight = torch.cat([fusion.project[name].weight for name in names], 1)
    return lambda pooled: F.linear(torch.cat(pooled, 1), weight, fusion.bias)


def weighted_sum(fusion: Any, names: list[str], rows: int) -> Call:
    layers = [fusion.project[name].weight for name in names]

    def hidden(pooled: Tensors) -> Tensor:
        return torch.stack([F.linear(x, w) for x, w in zip(pooled, layers, strict=True)], 1).tanh()

    if fusion.mode == "gated":
        gates, count = fusion.gates.weight, len(names)
        return lambda pooled: (
            torch.sigmoid(F.linear(torch.cat(pooled, 1), gates).view(rows, count, -1)) * hidden(pooled)
        ).sum(1)
    scores = fusion.scores if fusion.mode == "learned" else fusion.weights.log()
    return lambda pooled: (scores.softmax(0).unsqueeze(1) * hidden(pooled)).sum(1)


def decision(fusion: Any, names: list[str], rows: int) -> Call:
    layers = [(fusion.heads[name][1].weight, fusion.heads[name][1].bias) for name in names]

    def votes(pooled: Tensors) -> Tensor:
        return torch.stack([F.linear(x, *layer) for x, layer in zip(pooled, layers, strict=True)], 1).log_softmax(2)

    if fusion.combine == "mean":
        return lambda pooled: votes(pooled).logsumexp(1) - math.log(len(names))
    if fusion.combine == "weighted":
        return lambda pooled: (votes(pooled) + fusion.scores.log_softmax(0).unsqueeze(1)).logsumexp(1)
    if fusion.combine == "product":
        return lambda pooled: votes(pooled).sum(1).log_softmax(1)
    weight, bias = fusion.stack.weight, fusion.stack.bias
    ones = weight.new_ones(rows, len(names))
    return lambda pooled: F.linear(torch.cat([votes(pooled).flatten(1), ones], 1), weight, bias)


def tensor(fusion: Any, names: list[str], rows: int) -> Call:
    layers = [(fusion.project[name].weight, fusion.project[name].bias) for name in names]
    one = layers[0][0].new_ones(rows, len(names), 1)
    product = fusion.product

    def factors(pooled: Tensors) -> Tensor:
        z = torch.stack([F.linear(x, *layer) for x, layer in zip(pooled, layers, strict=True)], 1).tanh()
        return torch.cat([one, z], 2)

    if hasattr(product, "factors"):

        def low_rank(pooled: Tensors) -> Tensor:
            first, *others = torch.matmul(factors(pooled).transpose(0, 1).unsqueeze(1), product.factors).unbind(0)
            for other in others:
                first = first * other
            fused: Tensor = first.sum(0) + product.bias
            return fused

        return low_rank

    def full(pooled: Tensors) -> Tensor:
        first, *others = factors(pooled).unbind(1)
        for other in others:
            first = (first.unsqueeze(2) * other.unsqueeze(1)).flatten(1)
        return F.linear(first, product.output.weight, product.output.bias)

    return full


def recurrent(fusion: Any, names: list[str], rows: int) -> Call:  # noqa: ARG001
    kernel = _kernel(fusion.rnn)

    def call(sequences: Tensors) -> Tensor:
        last: Tensor = kernel(torch.cat(sequences, 2))[0][:, -1]
        return last

    return call


def contextual(fusion: Any, names: list[str], rows: int) -> Call:  # noqa: ARG001
    contexts = [_kernel(fusion.contexts[name]) for name in names]
    last = _kernel(fusion.rnn)

    def call(sequences: Tensors) -> Tensor:
        read = torch.cat([net(x)[0] for net, x in zip(contexts, sequences, strict=True)], 2)
        mean: Tensor = last(read)[0].mean(1)
        return mean

    return call


def cross_modal(fusion: Any, names: list[str], rows: int) -> Call:  # noqa: ARG001
    def call(sequences: Tensors) -> Tensor:
        steps = {name: fusion.project[name](x) for name, x in zip(names, sequences, strict=True)}
        normed = {name: fusion.norm[name](x) for name, x in steps.items()}
        total: Tensor = fusion.bias
        for target in names:
            total = total + F.linear(steps[target].mean(1), fusion.output[target].weight)
            for source in names:
                if source != target:
                    attend, values = fusion.attend[f"{source}_to_{target}"], normed[source]
                    seen, _ = attend(normed[target], values, values, need_weights=False)
                    total = total + F.linear(seen.mean(1), fusion.output[target].weight)
        return total

    return call


def memory(fusion: Any, names: list[str], rows: int) -> Call:
    cells = [fusion.cells[name] for name in names]
    hidden, weight = fusion.hidden, cells[0].input.weight
    zeros = [weight.new_zeros(rows, size) for size in (hidden, fusion.memory)]
    no_bias = weight.new_zeros(4 * hidden)

    def call(sequences: Tensors) -> Tensor:
        states = [(zeros[0], zeros[0]) for _ in cells]
        kept = zeros[1]
        before = torch.cat([c for _, c in states], 1)
        for step in range(sequences[0].shape[1]):
            states = [
                torch.lstm_cell(x[:, step], state, cell.input.weight, cell.recurrent.weight, cell.input.bias, no_bias)
                for cell, x, state in zip(cells, sequences, states, strict=True)
            ]
            now = torch.cat([c for _, c in states], 1)
            delta = torch.cat([before, now], 1)
            seen = fusion.attention(delta).softmax(1) * delta
            written = torch.sigmoid(fusion.write(seen)) * torch.tanh(fusion.proposal(seen))
            kept = torch.sigmoid(fusion.retain(seen)) * kept + written
            before = now
        return torch.cat([*(h for h, _ in states), kept], 1)

    return call


def _kernel(encoder: Any) -> nn.LSTM:
    """torch's own LSTM with the weights of a ``RecurrentEncoder`` of one layer."""
    directions = list(encoder.layers[0])
    one = directions[0]
    kernel = nn.LSTM(one.input_size, one.hidden_size, batch_first=True, bidirectional=len(directions) > 1)
    kernel = kernel.to(one.weight_ih_l0.device)
    with torch.no_grad():
        for suffix, direction in zip(("", "_reverse"), directions, strict=False):
            for name, value in direction.named_parameters():
                kernel.get_parameter(name + suffix).copy_(value)
    return kernel.eval()


_FUSIONS: dict[str, Callable[[Any, list[str], int], Call]] = {
    "concat": concat,
    "weighted-sum": weighted_sum,
    "decision": decision,
    "tensor": tensor,
    "recurrent": recurrent,
    "contextual": contextual,
    "cross-modal-attention": cross_modal,
    "memory": memory,
}
_STEPWISE = ("recurrent", "contextual", "cross-modal-attention", "memory")
"""Those that read sequences; the others read pooled vectors."""
