import pytest
import torch
from torch import Tensor

from models.cells import CELLS, CellName
from models.state import State
from models.stepwise import StepLinear, unrolled


def loss(cell: torch.nn.Module, steps: Tensor, names: tuple[str, ...]) -> Tensor:
    state: State = {name: torch.zeros(steps.shape[1], 6) for name in names}
    for x in steps:
        state = cell(x, state)
    return state["h"].square().sum()


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("half", [False, True])
def test_gathered_gradients_are_those_of_every_step_by_itself(name: CellName, half: bool) -> None:
    torch.manual_seed(0)
    cell = CELLS[name](4, 6)
    steps = torch.randn(7, 3, 4, requires_grad=True)
    loss(cell, steps, cell.state_names).backward()  # type: ignore[no-untyped-call]
    wanted = {key: value.grad for key, value in cell.named_parameters()}
    inputs, steps.grad = steps.grad, None
    cell.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half), unrolled(cell):
        gathered = loss(cell, steps, cell.state_names)
    gathered.backward()  # type: ignore[no-untyped-call]
    atol, rtol = (0.1, 0.2) if half else (1e-6, 1e-5)
    for key, value in cell.named_parameters():
        torch.testing.assert_close(value.grad, wanted[key], atol=atol, rtol=rtol)
    torch.testing.assert_close(steps.grad, inputs, atol=atol, rtol=rtol)


def test_a_layer_that_was_not_called_or_is_frozen_gets_no_gradient() -> None:
    layers = torch.nn.ModuleList([StepLinear(2, 2), StepLinear(2, 2), StepLinear(2, 2)])
    layers[1].requires_grad_(False)
    x = torch.ones(1, 2, requires_grad=True)
    with unrolled(layers):
        layers[1](layers[0](x)).sum().backward()
    assert layers[0].weight.grad is not None
    assert layers[1].weight.grad is None
    assert layers[2].weight.grad is None
    assert x.grad is not None


def passes(cell: torch.nn.Module, steps: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    """Gradients of a gradient, of the penalty on it alone and, behind it on the same graph, of the loss itself."""
    total = loss(cell, steps, names)
    (gradient,) = torch.autograd.grad(total, steps, create_graph=True)
    wanted = [steps, *cell.parameters()]
    penalty = torch.autograd.grad(gradient.square().sum(), wanted, retain_graph=True)
    return [*penalty, *torch.autograd.grad(total, wanted)]


@pytest.mark.parametrize("name", CELLS)
def test_gathered_gradients_hold_in_each_pass_over_one_graph(name: CellName) -> None:
    torch.manual_seed(0)
    cell = CELLS[name](4, 6)
    steps = torch.randn(5, 3, 4, requires_grad=True)
    wanted = passes(cell, steps, cell.state_names)
    with unrolled(cell):
        found = passes(cell, steps, cell.state_names)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
