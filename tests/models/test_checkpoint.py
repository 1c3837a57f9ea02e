import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from models.config import CheckpointConfig
from models.features.text import TextTokenizer
from models.heads import CaptioningHead, DecisionHead
from models.network import FusionRNN
from models.sequence import Padded
from models.training.captions import caption_cross_entropy, teach
from tests.models.tasks.checkpoints import described
from tests.support import tiny_captioner, tiny_config, tiny_network, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_captioner(tmp_path / "captioner")


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, name: str, value: torch.Tensor | None) -> None:
    weights = load_file(folder / "model.safetensors")
    if value is None:
        del weights[name]
    else:
        weights[name] = value
    save_file(weights, folder / "model.safetensors")


def test_saved_in_full_precision_it_loads_bit_equal(tmp_path: Path) -> None:
    config = tiny_config()
    network = tiny_network(config)
    save_checkpoint(tmp_path, config, network, tiny_tokenizer(), metrics={"n": 1}, card="# card", dtype=torch.float32)
    loaded = load_checkpoint(tmp_path)
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value), name
    assert loaded.config == config
    assert (loaded.metrics, loaded.card) == ({"n": 1}, "# card")


def test_what_was_measured_keeps_its_precision(tmp_path: Path) -> None:
    network = FusionRNN(decided_number().network)
    assert isinstance(network.head, DecisionHead)
    network.head.fit(torch.tensor([[200_007.25], [200_017.5]]))
    save_checkpoint(tmp_path, decided_number(), network, tiny_tokenizer())
    stored = load_file(tmp_path / "model.safetensors")
    assert stored.pop("head.mean").item() == 200_012.375
    assert stored.pop("head.std").item() == 5.125
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert load_checkpoint(tmp_path).network.head.std.item() == 5.125  # type: ignore[operator]


def decided_number() -> CheckpointConfig:
    """A regression of one number on which sound and text decide."""
    decision = {"type": "decision", "outputs": 1}
    return described("regression", decision | {"kind": "regression"}, "audio", "text", fusion=decision)


def test_whoever_may_read_the_config_may_read_the_weights(folder: Path) -> None:
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_the_digest_changes_with_the_weights(folder: Path) -> None:
    before = load_checkpoint(folder).digest
    edit_weights(folder, "head.bias", torch.ones(tiny_tokenizer().size, dtype=torch.float16))
    assert load_checkpoint(folder).digest != before


def test_every_parameter_gets_a_gradient() -> None:

    network = tiny_network(tiny_config()).train().requires_grad_(True)
    tokenizer = tiny_tokenizer()
    assert isinstance(network.head, CaptioningHead)
    encoded = network.encode({"image": one_photo()})
    loss = torch.zeros(())
    for row, text in enumerate(["a dog runs in the snow", "一只小狗"]):
        targets = torch.tensor([[[*tokenizer.encode(text), tokenizer.end]]])
        start = tokenizer.start(("en", "zh")[row])
        loss = loss + caption_cross_entropy(teach(network.head, encoded, row, start, targets, pad=tokenizer.pad))
    loss.backward()  # type: ignore[no-untyped-call]
    # A single modality is never absent, and the CNN's ReLU6 may be dead on one random picture.
    excused = {"fusion.absent.image"}
    lost = [name for name, p in network.named_parameters() if p.grad is None and name not in excused]
    assert lost == []


def one_photo() -> Padded:
    values = torch.randint(0, 256, (1, 1, 3, 64, 64), dtype=torch.uint8)
    return Padded(values, torch.tensor([1]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"format_version": 2}, "format_version"),
        ({"name": "../captioner"}, "name"),
        ({"task": "cooking"}, "task"),
        ({"modalities": {}}, "modalities"),
        ({"labels": ["a"]}, "config.json, labels belong to classification"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder: Path, change: dict[str, object], reason: str) -> None:
    edit_config(folder, **change)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(folder)


def test_absurd_sizes_are_refused_before_anything_is_allocated(folder: Path) -> None:
    network = json.loads((folder / "config.json").read_text())["network"]
    network["head"]["hidden"] = 10**9
    edit_config(folder, network=network)
    with pytest.raises(CheckpointError, match="less than or equal to 4096"):
        load_checkpoint(folder)


def test_sizes_within_bounds_that_disagree_with_the_weights_allocate_nothing(folder: Path) -> None:
    network = json.loads((folder / "config.json").read_text())["network"]
    network["head"]["hidden"] = 4096
    edit_config(folder, network=network)
    with pytest.raises(CheckpointError, match="has shape"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("head.bias", None, "lacks 1 tensors: head.bias"),
        ("head.extra", torch.zeros(1), "has unknown 1 tensors: head.extra"),
        ("head.bias", torch.zeros(3), r"has shape \(3,\)"),
        ("head.bias", torch.zeros(tiny_tokenizer().size, dtype=torch.int64), "has dtype I64"),
        ("head.bias", torch.full((tiny_tokenizer().size,), float("nan")), "NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, name: str, value: torch.Tensor | None, reason: str) -> None:
    edit_weights(folder, name, value)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(folder)


def test_files_that_are_no_text_or_may_not_be_read_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "README.md").write_bytes(b"caf\xe9")
    with pytest.raises(CheckpointError, match=r"README\.md cannot be read"):
        load_checkpoint(folder)
    (folder / "README.md").unlink()

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The owner of all files may read what the mode forbids.
    with monkeypatch.context() as patched:
        patched.setattr(TextTokenizer, "load", refused)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read.*denied"):
            load_checkpoint(folder)
    opened = Path.open

    def weights_refused(self: Path, *arguments: Any, **named: Any) -> Any:
        return refused() if self.name == "model.safetensors" else opened(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", weights_refused)
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read: Permission denied$"):
        load_checkpoint(folder)


def test_files_that_are_missing_or_broken_are_named(folder: Path) -> None:
    tokenizer = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a readable tokenizer"):
        load_checkpoint(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        load_checkpoint(folder)
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "model.safetensors").write_bytes(pickle.dumps({"evil": 1}))
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_checkpoint(folder)
    (folder / "config.json").write_text('{"format_version": ' + "1" * 5000 + "}")
    with pytest.raises(CheckpointError, match="is not JSON"):
        load_checkpoint(folder)
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="not JSON"):
        load_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        load_checkpoint(folder)


def test_a_folder_that_is_not_there_is_named_as_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=rf"^captioner: there is no folder {tmp_path}/zoo/captioner$"):
        load_checkpoint("zoo/captioner")
    with pytest.raises(CheckpointError, match=rf"^{tmp_path.name}: config\.json is missing"):
        load_checkpoint(".")


def test_loading_draws_no_random_values_and_imports_no_compiler(tmp_path: Path) -> None:
    folder = tiny_captioner(tmp_path / "captioner")
    script = (
        "import sys; from pathlib import Path; from models.checkpoint import load_checkpoint;"
        f"load_checkpoint(Path({str(folder)!r})); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("name", ["README.md", "metrics.json"])
def test_what_all_are_shown_is_no_link_out_of_the_folder(folder: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    with pytest.raises(CheckpointError, match=f"{name} is a link out of the folder"):
        load_checkpoint(folder)


def test_links_within_the_folder_are_followed(folder: Path) -> None:
    # As Kubernetes mounts the files of a ConfigMap.
    (folder / "..data").mkdir()
    (folder / "config.json").rename(folder / "..data" / "config.json")
    (folder / "config.json").symlink_to("..data/config.json")
    (folder.parent / "linked").symlink_to(folder)
    assert load_checkpoint(folder.parent / "linked").config.name == "captioner"


def test_weights_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    # As caches of downloads keep them.
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    assert load_checkpoint(folder).config.name == "captioner"


@pytest.mark.parametrize("value", ['"\\ud800"', '{"a": ' * 300 + "1" + "}" * 300])
@pytest.mark.parametrize("name", ["metrics.json", "config.json"])
def test_what_cannot_be_told_to_others_is_not_read(folder: Path, name: str, value: str) -> None:
    (folder / name).write_text(f'{{"a": {value}}}')
    with pytest.raises(CheckpointError, match=f"{name} is not JSON"):
        load_checkpoint(folder)


def test_a_reason_is_short_and_has_nothing_that_a_terminal_obeys(folder: Path) -> None:
    edit_config(folder, **{"\x1b[31m" + "x" * 10_000: 1})
    with pytest.raises(CheckpointError, match=r"config\.json, \\x1b\[31mxxx") as caught:
        load_checkpoint(folder)
    assert len(str(caught.value)) < 1100


def test_files_that_change_while_they_are_read_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = TextTokenizer.load

    def meanwhile(path: Path) -> TextTokenizer:
        edit_weights(folder, "head.bias", torch.ones(tiny_tokenizer().size, dtype=torch.float16))
        return load(path)

    with monkeypatch.context() as patched:
        patched.setattr(TextTokenizer, "load", meanwhile)
        with pytest.raises(CheckpointError, match="its files changed while they were read"):
            load_checkpoint(folder)
    assert load_checkpoint(folder).config.name == "captioner"


@pytest.mark.parametrize("temperature", [10**400, 1e-320, 1e30, 0, True], ids=["huge", "tiny", "large", "0", "true"])
def test_a_temperature_that_would_make_no_numbers_is_refused(temperature: float) -> None:
    head = {"type": "classification", "classes": 2}
    with pytest.raises(ValueError, match=r"defaults\.temperature is .*must be a number above 0"):
        described("classification", head, "text", labels=["a", "b"], defaults={"temperature": temperature})


def test_the_label_that_is_there_twice_is_found_among_many() -> None:
    labels = [f"label {index}" for index in range(99_999)]
    head = {"type": "classification", "classes": 100_000}
    with pytest.raises(ValueError, match="labels must differ, but 'label 99998' is there twice"):
        described("classification", head, "text", labels=[*labels, labels[-1]])
