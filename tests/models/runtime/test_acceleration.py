"""A faster part is believed only after it has given what the module gives, and nothing else of the network changes."""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.memory import keep_freed_memory
from models.pipeline import Pipeline
from models.runtime import ACCELERATORS, Accelerator, Runtime, RuntimeName, accelerate
from tests.support import tiny_captioner


class Doubled(nn.Module):
    """A part of a user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Quick:
    """What a user has written to replace it."""

    how = "by hand"

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Registers an accelerator for ``Doubled`` and returns what became of one."""

    def register(build: Any) -> tuple[nn.Module, Runtime]:
        monkeypatch.setitem(
            ACCELERATORS, Doubled, Accelerator(Doubled, "forward", build, lambda _, generator: [(torch.ones(2, 3),)])
        )
        network = nn.Sequential(Doubled(), nn.Tanh())
        return network, accelerate(network)

    return register


def test_a_part_of_ones_own_is_replaced_in_its_place(registered: Any) -> None:
    network, runtime = registered(lambda module, precision: Quick(2))
    assert runtime.parts == {"0": "by hand"}
    assert isinstance(network[0].forward, Quick)
    assert torch.equal(network(torch.ones(1)), torch.tanh(torch.full((1,), 2.0)))


def test_one_that_gives_something_else_is_not_believed(registered: Any) -> None:
    network, runtime = registered(lambda module, precision: Quick(2.001))
    assert runtime.parts == {}
    assert "differs from torch by 5.0e-04 for an input of shape (2, 3)" in runtime.refused["0"]
    assert torch.equal(network(torch.ones(1)), torch.tanh(torch.full((1,), 2.0)))


def test_one_that_this_machine_cannot_run_is_left_to_torch(registered: Any) -> None:
    def build(module: nn.Module, precision: torch.dtype) -> Quick:
        raise NotImplementedError("no such processor\nand a long list of those that would do")

    _, runtime = registered(build)
    assert (runtime.name, runtime.parts, runtime.refused) == ("packed", {}, {"0": "no such processor"})


def test_without_bfloat16_a_part_is_packed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ACCELERATORS[nn.Linear]

    def build(layer: nn.Module, precision: torch.dtype) -> Any:
        if precision == torch.bfloat16:
            raise RuntimeError("no bfloat16 here")
        return kind.build(layer, precision)

    monkeypatch.setitem(ACCELERATORS, nn.Linear, replace(kind, build=build))
    layer = nn.Linear(512, 512)
    layer.weight.data = layer.weight.data.half().float()
    runtime = accelerate(nn.Sequential(layer), "bf16")
    assert (runtime.name, runtime.refused) == ("bf16", {})
    assert runtime.parts["0"].startswith("float32")


def test_weights_that_would_be_rounded_are_left_to_torch() -> None:
    layer = nn.Linear(512, 512)
    assert layer.weight[0, 0].half() != layer.weight[0, 0]
    runtime = accelerate(nn.Sequential(layer))
    assert runtime.parts == {}
    assert "no float16 numbers" in runtime.refused["0"]


def test_torch_is_left_alone() -> None:
    network = nn.Sequential(nn.Linear(512, 512), nn.GRU(4, 4, batch_first=True))
    assert accelerate(network, "torch") == Runtime("torch")
    assert not any("forward" in vars(module) for module in network.modules())


class OnCuda(nn.Module):
    """A network that says it is on a CUDA device, where there need be none."""

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        yield SimpleNamespace(device=torch.device("cuda"))


@pytest.mark.parametrize(("wanted", "rounds"), [("torch", False), ("auto", False), ("packed", False), ("bf16", True)])
def test_cudnn_rounds_no_float32_unless_bfloat16_is_asked_for(
    wanted: RuntimeName, rounds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    accelerate(nn.Linear(2, 2), wanted)
    assert torch.backends.cudnn.allow_tf32
    accelerate(OnCuda(), wanted)
    assert torch.backends.cudnn.allow_tf32 == rounds


def test_nothing_random_is_drawn() -> None:
    layer = nn.GRU(4, 4, batch_first=True)
    before = torch.get_rng_state()
    accelerate(layer)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unloaded_network_is_gone_at_once(tmp_path: Path) -> None:
    folder = tiny_captioner(tmp_path / "captioner")
    pipeline = Pipeline.load(folder)
    assert "encoders.image.cnn" in pipeline.runtime.parts
    pipeline.warm_up()
    gc.collect()
    gc.disable()
    try:
        network, cnn = weakref.ref(pipeline.network), weakref.ref(pipeline.network.encoders["image"].cnn)
        del pipeline
        assert network() is None
        assert cnn() is None
    finally:
        gc.enable()


FAULTS = """
import resource, sys, threading, torch
from models.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    for turn in range(20):
        if turn == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        layers = [torch.ones(2**20) for _ in range(int(sys.argv[3]))]
        del layers
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
if sys.argv[2] == "main":
    work()
else:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize("where", [("main", "4"), ("thread", "40")], ids=["main", "thread"])
def test_freed_memory_is_used_again(where: tuple[str, str]) -> None:
    if not keep_freed_memory():
        pytest.skip("this malloc has no such options")

    def faults(how: str) -> int:
        # Where malloc gives nothing back, which depends on what else it holds, there would be nothing to see.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
        command = [sys.executable, "-c", FAULTS, how, *where]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)

    assert faults("keep") < 1000 < faults("give")


PLANS = """
import torch
from models.memory import bound_plans
bound_plans()
layer = torch.nn.Conv2d(16, 16, 3)
with torch.inference_mode():
    for _ in range(2):
        for size in range(300):
            layer(torch.ones(1, 16, 32, 64 + size))
"""


def test_fewer_plans_are_kept_unless_somebody_says_how_many() -> None:
    def planned(**given: str) -> int:
        environment = os.environ | {"ONEDNN_VERBOSE": "profile_create"} | given
        said = subprocess.run(
            [sys.executable, "-c", PLANS], check=True, capture_output=True, text=True, env=environment
        )
        return sum("cache_miss" in line and "convolution" in line for line in said.stdout.splitlines())

    once = planned(ONEDNN_PRIMITIVE_CACHE_CAPACITY="4096")
    assert once > 200
    # The second time they are gone.
    assert planned() == 2 * once


HOLES = """
import torch
from pathlib import Path
from models.memory import give_back, keep_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20
keep_freed_memory()
before = resident()
held = [torch.ones(2**14) for _ in range(3200)]
held = held[::100]
between = resident()
give_back()
print(between - before, resident() - before)
"""


def test_what_is_free_between_what_is_used_can_be_given_back() -> None:
    if not keep_freed_memory():
        pytest.skip("this malloc has no such options")
    answer = subprocess.run([sys.executable, "-c", HOLES], check=True, capture_output=True, text=True).stdout
    kept, left = map(int, answer.split())
    # 200 MiB, of which a hundredth is held.
    assert kept > 150
    assert left < 50
