"""The guide, followed word for word on media that the test makes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from models.training.augmentation import AUGMENTATIONS
from models.training.experiment import DEFAULT_PARTS, Experiment, ModalityPlan
from models.training.plan import TrainingPlan
from models.training.targets import TARGETS

GUIDE = (Path(__file__).parents[2] / "docs" / "train-your-own.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def make_media(folder: Path, count: int = 15) -> None:
    """Two classes that differ in colour, pitch and words, with the names that the guide uses."""
    rng = np.random.default_rng(0)
    kinds = {
        "alarm": ("a", (200, 60, 60), 1500, ["the bell rings", "a loud bell", "run outside"]),
        "calm": ("b", (60, 60, 200), 300, ["all is quiet", "a quiet night", "nothing rings"]),
    }
    for label, (letter, colour, hertz, texts) in kinds.items():
        (folder / label).mkdir(parents=True)
        for number in range(1, count + 1):
            stem = folder / label / f"{letter}{number}"
            pixels = np.clip(np.array(colour) + rng.normal(0, 40, (48, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(stem.with_suffix(".png"))
            time = np.arange(8000) / 16000
            sound = 0.4 * np.sin(2 * np.pi * hertz * time) + rng.normal(0, 0.05, time.shape)
            soundfile.write(stem.with_suffix(".wav"), sound, 16000)
            stem.with_suffix(".txt").write_text(texts[number % 3] + "\n", encoding="utf-8")


@pytest.mark.slow
def test_the_guide_works_as_written(tmp_path: Path) -> None:
    make_media(tmp_path / "my")
    # The guide kills its server; should it fail before, the trap does.
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n" + "echo @@@\n".join(BLOCKS)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "FUSIONRNN_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    *_, whole, sound_only, further = done.stdout.split("@@@\n")
    for answer, label in ((whole, "alarm"), (sound_only, "calm")):
        assert json.loads(answer)["predictions"][0]["label"] == label
    assert set(json.loads(sound_only)["modalities"]) == {"audio"}
    assert re.search(r"Serving my-first\. Try it at http://127\.0\.0\.1:\d+/docs", done.stdout)
    assert json.loads((tmp_path / "runs" / "my" / "checkpoint" / "metrics.json").read_text())["n"] == 6
    assert "Goes on from voice-commands" in further


def test_the_guide_names_every_key_with_its_default() -> None:
    for name, field in TrainingPlan.model_fields.items():
        row = re.search(rf"^\| `{name}` \| (.*?) \|", GUIDE, re.MULTILINE)
        assert row is not None, name
        written = row[1].strip('`"')
        if field.default is None:
            assert written == "as `rate"
        else:
            assert written == str(field.default) or float(written) == field.default
    for name in (*Experiment.model_fields, *ModalityPlan.model_fields, *AUGMENTATIONS, *TARGETS):
        assert f"`{name}`" in GUIDE or f"[{name}]" in GUIDE or f"[{name}.NAME]" in GUIDE, name


def test_the_guide_names_the_default_parts() -> None:
    for modality, (features, encoder) in DEFAULT_PARTS.items():
        assert f"| {modality} | `{features}` | `{encoder}` |" in GUIDE
    for target, kind in TARGETS.items():
        assert re.search(rf"^\| `{target}` \| {f'`{kind.field}`' if kind.field else ''} ?\|", GUIDE, re.MULTILINE), (
            target
        )
