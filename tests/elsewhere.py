"""A device that is not there: tensors that say they are on it, and can be mixed with the CPU's as little as CUDA's can.

Where there is no GPU, it shows that nothing which is served or trained on one would meet a tensor left on the CPU, by
computing on the CPU and keeping count of what lives where. What it cannot show is how CUDA's own kernels round, how
fast they are, and what they refuse; and steps that are replayed as CUDA graphs are not taken.

Torch knows the device as a second ``meta``, whose kernels none of these tensors ever reach; the first is the real one.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta:1")
_aten = torch.ops.aten

_PLAIN = {_aten._local_scalar_dense.default, _aten.equal.default, _aten._has_compatible_shallow_copy_type.default}
"""What they return is on no device."""
_MOVES = {_aten._to_copy.default, _aten.copy_.default, _aten._has_compatible_shallow_copy_type.default}
_ON_CPU = {
    _aten._pack_padded_sequence.default: 1,
    _aten._pad_packed_sequence.default: 1,
    _aten.gru.data: 1,
    _aten.lstm.data: 1,
    _aten.rnn_relu.data: 1,
    _aten.rnn_tanh.data: 1,
}
"""Which of their arguments says how long the rows are, and stays on the CPU."""
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
"""Their second argument, the indices, may be on the CPU."""


class MixedDevicesError(RuntimeError):
    """What CUDA would not do either."""


class There(Tensor):
    """A tensor of the device; ``here`` is what it holds."""

    here: Tensor
    is_meta = False

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        # Of a tensor that was made in inference mode, torch would want a version that a wrapped one does not have.
        with torch.inference_mode(mode=False):
            made: There = Tensor._make_wrapper_subclass(
                cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
                device=ELSEWHERE, requires_grad=here.requires_grad,
            )  # fmt: skip
        made.here = here
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.here})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.here.detach().__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def tolist(self) -> Any:
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})


class OnTheDevice:
    """While it is entered, ``.to(ELSEWHERE)`` and ``device=ELSEWHERE`` make tensors of the device."""

    def __enter__(self) -> Self:
        self._modes = ExitStack()
        self._modes.enter_context(_Dispatch())  # type: ignore[no-untyped-call]
        self._modes.enter_context(_Make())
        # Which of a CUDA device would say no, and of one that it does not know raises.
        self._modes.enter_context(patch.object(torch, "is_autocast_enabled", lambda *_: False))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._modes.close()


class _Dispatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Make(TorchFunctionMode):
    """Values of Python, which torch would not keep at all on the device that this one is called after."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and _is_there(given.get("device")):
            value = args[0].cpu() if _there(args[0]) else args[0]
            return func(value, *args[1:], **{**given, "device": "cpu"}).to(ELSEWHERE)
        if func is Tensor.__setitem__ and _there(args[0]):
            assert not args[0].requires_grad
            return func(*tree_map(lambda value: value.here if _there(value) else value, args))
        if func is Tensor.new_tensor and _there(args[0]):
            return torch.tensor(args[1], **{"dtype": args[0].dtype, **given}).to(ELSEWHERE)
        return func(*args, **given)


def _run(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    made_there = any(map(_there, tensors))
    if kwargs.get("device") is not None:
        made_there = _is_there(kwargs["device"])
        kwargs = {**kwargs, "device": torch.device("cpu") if made_there else kwargs["device"]}
    elif made_there:
        _check(func, args, tensors)
    here_args, here_kwargs = tree_map(lambda value: value.here if _there(value) else value, (args, dict(kwargs)))
    result = func(*here_args, **here_kwargs)
    if torch.Tag.inplace_view in func.tags and made_there:
        with no_dispatch():
            func(*args, **kwargs)  # the shape that is shown changes with that of what is held
        return args[0]
    if func is _aten.copy_.default:
        return args[0]
    if not made_there or func in _PLAIN:
        return result
    if func is _aten._pack_padded_sequence.default:
        return There(result[0]), result[1]
    # What changes a tensor in place returns it.
    given = {id(value.here): value for value in tensors if isinstance(value, There)}
    return tree_map(lambda value: given.get(id(value), _wrapped(value)), result)


def _check(func: Any, args: Any, tensors: list[Tensor]) -> None:
    """Refuse an operation between the device and the CPU; single numbers, of no dimension, go everywhere."""
    if func in _MOVES:
        return
    if func in _INDEXED:
        tensors = [value for value in tree_leaves([*args[:1], *args[2:]]) if isinstance(value, Tensor)]
        tensors += [index for index in args[1] if _there(index)]
    if func in _ON_CPU:
        lengths = args[_ON_CPU[func]]
        if _there(lengths):
            raise MixedDevicesError(f"{func} wants lengths on the CPU")
        tensors = [value for value in tensors if value is not lengths]
    strange = [value for value in tensors if not _there(value) and (value.dim() > 0 or value.is_meta)]
    if strange:
        raise MixedDevicesError(f"{func}: a tensor {tuple(strange[0].shape)} on the CPU beside those of the device")


def _wrapped(value: Any) -> Any:
    return There(value) if isinstance(value, Tensor) else value


def _there(value: Any) -> bool:
    return isinstance(value, There)


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device) == ELSEWHERE
