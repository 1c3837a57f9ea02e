"""As much of a Dockerfile's language as ours uses, to run the steps of a stage in an ordinary folder."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: ``name`` in upper case, and the rest with its continued lines joined."""

    name: str
    value: str


def parse(text: str) -> list[list[Instruction]]:
    """The stages of a Dockerfile in order, each from its FROM on; comments are dropped."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n", "", lines).splitlines():
        if not line.strip():
            continue
        name, _, value = line.strip().partition(" ")
        if name.upper() == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name.upper(), value.strip()))
    return stages


def values(stage: list[Instruction], name: str) -> list[str]:
    """The values of all instructions of that name, in order."""
    return [instruction.value for instruction in stage if instruction.name == name]


def assignments(value: str) -> dict[str, str]:
    """What an ENV of the form ``A=b C=d`` sets."""
    return dict(re.findall(r"(\w+)=(\S*)", value))


def exec_form(value: str) -> list[str]:
    """The arguments of a CMD in exec form.

    Raises:
        ValueError: it is in shell form.
    """
    if not value.startswith("["):
        raise ValueError(f"not in exec form: {value}")
    return [str(argument) for argument in json.loads(value)]


def run_stage(stage: list[Instruction], *, context: Path, root: Path, path: str, timeout_s: float) -> Path:
    """Carries out a stage's ARG, ENV, WORKDIR, COPY and RUN with ``root`` in the place of ``/``.

    Absolute paths in ENV, WORKDIR and COPY are moved under ``root``, so RUN may name folders only through variables.

    Args:
        path: PATH for the RUN steps.
        timeout_s: for each RUN step.

    Returns:
        The stage's last working directory.

    Raises:
        ValueError: an instruction that this does not know.
        RuntimeError: a RUN step failed or took too long; the message ends with what it printed.
    """

    def moved(place: str) -> str:
        return str(root / place.lstrip("/")) if place.startswith("/") else place

    # The machine's own settings for pip and proxies stay, as they would for a build on it.
    environment = {**os.environ, "PATH": path}
    directory = root
    for instruction in stage:
        match instruction.name:
            case "FROM":
                continue
            case "ARG":
                name, _, default = instruction.value.partition("=")
                environment[name] = default
            case "ENV":
                environment |= {name: moved(value) for name, value in assignments(instruction.value).items()}
            case "WORKDIR":
                directory = Path(moved(instruction.value))
                directory.mkdir(parents=True, exist_ok=True)
            case "COPY":
                *sources, target = instruction.value.split()
                for source in sources:
                    place = directory / moved(target)
                    if (context / source).is_dir():
                        shutil.copytree(context / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                    else:
                        shutil.copy(context / source, place)
            case "RUN":
                _run(instruction.value, directory, environment, timeout_s)
            case other:
                raise ValueError(f"no builder step is known as {other}")
    return directory


def _run(command: str, directory: Path, environment: dict[str, str], timeout_s: float) -> None:
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=directory, env=environment, timeout=timeout_s,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        ended, printed = f"exit status {done.returncode}", done.stdout
    except subprocess.TimeoutExpired as late:
        ended, printed = f"not done after {timeout_s:.0f} s", late.stdout or b""
    if ended != "exit status 0":
        raise RuntimeError(f"{ended}: RUN {command}\n{printed[-4000:].decode(errors='replace')}")
