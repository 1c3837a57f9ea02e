"""The Dockerfile builds a service that starts. No container engine is needed: its steps are run in a fresh folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.dockerfile import assignments, exec_form, parse, run_stage, values
from tests.repository.project import ROOT

BUILDER, FINAL = parse((ROOT / "Dockerfile").read_text())
ENVIRONMENT = {name: value for line in values(FINAL, "ENV") for name, value in assignments(line).items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the builder stage leaves for the final image."""
    root = tmp_path_factory.mktemp("image")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    try:
        run_stage(BUILDER, context=ROOT, root=root, path=path, timeout_s=600)
    except RuntimeError as failure:
        # Not a skip, even where only the package index is out of reach: a test that passes by not running would let the
        # image rot unseen, and whoever runs it can tell a broken network from a broken Dockerfile by what follows.
        pytest.fail(f"the Dockerfile's install steps failed; they need the package index.\n{failure}", pytrace=False)
    return root / "opt/fusionrnn"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_install_steps_make_a_command_that_starts(built: Path) -> None:
    shown = subprocess.run(
        [built / "bin/fusionrnn", "--help"],
        cwd=built,
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(built)},
    )
    assert shown.returncode == 0, shown.stderr
    assert "serve" in shown.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_code_comes_from_the_image_and_not_from_here(built: Path) -> None:
    script = "import app, models; print(models.__path__[0])"
    shown = subprocess.run([built / "bin/python", "-c", script], cwd=built, capture_output=True, text=True, timeout=60)
    assert Path(shown.stdout.strip()).is_relative_to(built), shown.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_shipped_checkpoints_are_in_the_image(built: Path) -> None:
    def files(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    assert files((built / "zoo").resolve()) == files(ROOT / "models/zoo")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_image_holds_the_pinned_versions(built: Path) -> None:
    frozen = subprocess.run(
        [built / "bin/python", "-m", "pip", "freeze", "--disable-pip-version-check"],
        capture_output=True, text=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    versions = {line.partition("+")[0].lower().replace("_", "-") for line in frozen if "==" in line}
    pins = {line.lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert "torch==2.13.0" in versions
    assert {line for line in versions - pins if not line.startswith(("nvidia-", "cuda-", "triton"))} == set()


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert linted.returncode == 0, linted.stdout


def test_both_stages_stand_on_the_same_pinned_python() -> None:
    images = [values(stage, "FROM")[0].split()[0] for stage in (BUILDER, FINAL)]
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", images[0])


def test_run_steps_name_folders_by_variables() -> None:
    """So that ``run_stage`` runs these very steps, elsewhere."""
    for command in values(BUILDER, "RUN"):
        assert re.findall(r"""(?:^|[\s"'=])/\w+""", command) == []


def test_what_is_copied_passes_dockerignore() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for line in values(BUILDER, "COPY") for source in line.split()[:-1]}
    assert copied == allowed
    for source in copied:
        assert (ROOT / source).exists()


def test_no_compiler_is_installed() -> None:
    assert [command for stage in (BUILDER, FINAL) for command in values(stage, "RUN") if "apt" in command] == []


def test_the_service_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", values(FINAL, "USER")[-1])


def test_signals_reach_the_service() -> None:
    assert exec_form(values(FINAL, "CMD")[-1]) == ["fusionrnn", "serve"]
    assert values(FINAL, "ENTRYPOINT") == []


def test_the_health_check_asks_the_port_that_is_served() -> None:
    (check,) = values(FINAL, "HEALTHCHECK")
    assert exec_form(check[check.index("[") :])[0] == "python"
    assert "/healthz" in check
    assert values(FINAL, "EXPOSE") == [ENVIRONMENT["FUSIONRNN_PORT"]]
    assert ENVIRONMENT["FUSIONRNN_HOST"] == "0.0.0.0"


def test_the_device_is_an_argument_and_the_cpu_the_default() -> None:
    assert "DEVICE=cpu" in values(BUILDER, "ARG")
    assert "DEVICE=cpu" in values(FINAL, "ARG")
    assert ENVIRONMENT["FUSIONRNN_DEVICE"] == "$DEVICE"


def test_both_the_zoo_and_the_users_folder_are_served() -> None:
    zoo, own = ENVIRONMENT["FUSIONRNN_MODEL_DIR"].split(":")
    (prefix,) = [assignments(line)["PREFIX"] for line in values(BUILDER, "ENV")]
    assert zoo == f"{prefix}/zoo"
    assert values(FINAL, "VOLUME") == [f"{own} {ENVIRONMENT['FUSIONRNN_COLLECTIONS_DIR']}"]
    assert values(FINAL, "COPY") == [f"--from=builder {prefix} {prefix}"]
