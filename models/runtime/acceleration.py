"""Replaces methods of a loaded network's modules by faster callables that compute the same.

An accelerator knows one type of module. It packs the weights of an instance for a kernel of this machine, once, when
the network is loaded, and is believed only after it has given what the module itself gives. The module keeps its
parameters and its place: nothing that reads them notices, and whatever an accelerator does not know runs as it did.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from models.memory import keep_freed_memory
from models.runtime.autocast import in_bfloat16

RuntimeName = Literal["auto", "torch", "packed", "bf16"]
"""``torch`` leaves the network alone; ``packed`` computes in float32 as it does, on weights laid out for the machine;
``bf16`` also multiplies in bfloat16, with its rounding errors; ``auto`` is ``packed`` on a CPU. On a CUDA device the
products are torch's, in bfloat16 where that is asked for, and all but ``torch`` replay a decoder's steps as CUDA graphs
where that is faster."""

_Module = TypeVar("_Module", bound=nn.Module)
_MODULE = TypeVar("_MODULE", bound=nn.Module)

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.2}
"""Largest difference that is believed, relative to the norm of the reference."""


class FastMethod(Protocol):
    """What stands in for a method; ``how`` says in a few words what it runs on.

    It must not hold the module itself: that would be a cycle, and an unloaded network would wait for the collector.
    """

    how: str

    def __call__(self, *args: Any) -> Any: ...


Build: TypeAlias = Callable[[_Module, torch.dtype], FastMethod | None]


@dataclass(frozen=True, slots=True)
class Accelerator(Generic[_MODULE]):
    """How modules of exactly the type ``kind`` get faster.

    ``build`` returns the callable for one of them and the precision of products, or None where it would gain nothing.
    ``examples`` gives arguments on which the callable and the method are compared.
    """

    kind: type[_MODULE]
    method: str
    build: "Build[_MODULE]"
    examples: Callable[[_MODULE, torch.Generator], Sequence[tuple[Any, ...]]]


ACCELERATORS: dict[type[nn.Module], Accelerator[Any]] = {}
"""For a CPU."""

CUDA_ACCELERATORS: dict[type[nn.Module], Accelerator[Any]] = {}


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a network runs on: ``parts`` says how by the module's path, ``refused`` why a part was left to torch."""

    name: str
    parts: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def accelerate(network: nn.Module, wanted: RuntimeName = "auto") -> Runtime:
    """Make a network in evaluation mode faster in place, for inference only, and say what was done.

    A part whose kernel this machine lacks, or which does not give what the module gives, stays as it is.
    """
    device = next((parameter.device.type for parameter in network.parameters()), "cpu")
    if device == "cuda" and wanted != "bf16":
        # By default cuDNN rounds what its convolutions and recurrences multiply to TF32, a mantissa of ten bits, though
        # products elsewhere are not: chunks would be further than 1e-5 from the whole. It is the process's setting.
        torch.backends.cudnn.allow_tf32 = False
    if wanted == "torch" or device not in ("cpu", "cuda"):
        return Runtime("torch")
    if device == "cpu":
        keep_freed_memory()
        accelerators = ACCELERATORS
        runtime = Runtime("packed" if wanted == "auto" else wanted)
    else:
        accelerators = CUDA_ACCELERATORS
        runtime = Runtime("bf16" if wanted == "bf16" else "torch")
        if wanted == "bf16":
            encoders: dict[str, nn.Module] = dict(getattr(network, "encoders", {}))
            runtime.parts.update({f"encoders.{name}": in_bfloat16(each, device) for name, each in encoders.items()})
    precisions = [torch.bfloat16, torch.float32] if wanted == "bf16" else [torch.float32]
    for path, module in _outermost(network, "", accelerators):
        accelerator = accelerators[type(module)]
        for precision in precisions:
            try:
                fast = _built(accelerator, module, precision)
            except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:
                runtime.refused[path] = str(error).splitlines()[0]
                continue
            runtime.refused.pop(path, None)
            if fast is not None:
                setattr(module, accelerator.method, fast)
                runtime.parts[path] = fast.how
            break
    return runtime


@torch.no_grad()
def _built(accelerator: Accelerator[Any], module: nn.Module, precision: torch.dtype) -> FastMethod | None:
    """What stands in for the module's method, or None where that would gain nothing.

    Raises:
        ValueError: it does not give what the method gives.
    """
    fast = accelerator.build(module, precision)
    if fast is None:
        return None
    generator = torch.Generator().manual_seed(0)
    for arguments in accelerator.examples(module, generator):
        expected = getattr(module, accelerator.method)(*arguments)
        for one, other in zip(_tensors(expected), _tensors(fast(*arguments)), strict=True):
            error = _difference(one, other)
            if not error <= _TOLERANCE[precision]:
                raise ValueError(f"differs from torch by {error:.1e} for an input of shape {tuple(arguments[0].shape)}")
    return fast


def _outermost(
    module: nn.Module, path: str, accelerators: Mapping[type[nn.Module], Accelerator[Any]]
) -> Iterator[tuple[str, nn.Module]]:
    """Modules that have an accelerator. What is inside one whose ``forward`` is replaced is not called any more."""
    accelerator = accelerators.get(type(module))
    if accelerator is not None:
        yield path, module
        if accelerator.method == "forward":
            return
    for name, child in module.named_children():
        yield from _outermost(child, f"{path}.{name}" if path else name, accelerators)


def _difference(expected: Tensor, given: Tensor) -> float:
    if expected.shape != given.shape:
        return float("inf")
    # What is infinite in both is equal, as the scores of words that cannot follow are.
    apart = torch.where(expected == given, 0, expected - given)
    return float(apart.norm() / expected.masked_fill(expected.isinf(), 0).norm().clamp(min=1e-6))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for item in value:
            yield from _tensors(item)
