"""The READMEs: what can be copied works, and the Chinese one offers all that the English one does."""

import json
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.app.conftest import running_server
from tests.support import tiny_captioner

ROOT = Path(__file__).parents[2]
READMES = tuple((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
ENGLISH, CHINESE = READMES


def commands(readme: str) -> list[str]:
    """What its blocks for the shell run, without comments and without the words of an example in either language."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"(^|\s+)# .*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def links(readme: str) -> set[str]:
    """The pages and pictures that it leads to."""
    return set(re.findall(r"\]\(([^)]+)\)", readme)) - {"README.md", "README.zh-CN.md"}


def test_both_languages_offer_the_same() -> None:
    assert commands(CHINESE) == commands(ENGLISH)
    assert links(CHINESE) == links(ENGLISH)
    assert len(re.findall("^## ", CHINESE, re.MULTILINE)) == len(re.findall("^## ", ENGLISH, re.MULTILINE))
    variables = re.compile(r"FUSIONRNN_\w+|`/\w[^`]*`|--\w[\w-]+")
    assert set(variables.findall(CHINESE)) == set(variables.findall(ENGLISH))
    numbers = re.compile(r"\d+\.\d+")
    # Which is 1020 times ten thousand, as Chinese counts.
    assert set(numbers.findall(ENGLISH.replace("10.2 million", ""))) == set(numbers.findall(CHINESE))


@pytest.mark.parametrize("link", sorted(link for link in links(ENGLISH) if "://" not in link))
def test_what_it_leads_to_is_there(link: str) -> None:
    path, _, heading = link.partition("#")
    assert (ROOT / path).exists()
    if heading:
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        assert heading in {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_python_works_as_it_stands(tmp_path: Path) -> None:
    (code,), (same,) = (re.findall(r"^```python\n(.*?)^```$", each, re.MULTILINE | re.DOTALL) for each in READMES)
    assert code == same
    Image.fromarray(np.full((300, 400, 3), 90, np.uint8)).save(tmp_path / "photo.jpg")
    program = code.replace("photo.jpg", str(tmp_path / "photo.jpg"))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'") == 6


@pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_a_photo_of_a_phone_can_be_posted_as_json(readme: str, tmp_path: Path) -> None:
    (command,) = re.findall(r"^\(printf .*\\?\n.*application/json.*$", readme, re.MULTILINE)
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), np.uint8)
    photo = BytesIO()
    Image.fromarray(noise).save(photo, "JPEG", quality=95)
    (tmp_path / "photo.jpg").write_bytes(photo.getvalue())
    # Of one argument Linux takes 128 KiB.
    assert len(photo.getvalue()) > 2_900_000
    tiny_captioner(tmp_path / "zoo" / "captioner")
    with running_server(tmp_path / "zoo") as (address, _):
        done = subprocess.run(
            ["bash", "-c", "set -o pipefail\n" + command.replace("localhost:8000", address)],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "captioner"
