"""Studies: what is claimed of the library, as commands that anyone can repeat. Each writes a page with its tables."""

from pathlib import Path

STUDIES = ("gradients", "missing-modality", "mosi")


def run_study(name: str, data: Path | None, out: Path, *, seeds: int, quick: bool) -> Path:
    """Run one of ``STUDIES`` and return the page that it wrote into ``out``; runs are kept in ``out``/runs.

    Raises:
        DataError: there is no such study, or ``data`` is not what it needs.
    """
    import torch

    from models.training.manifest import DataError
    from models.training.studies import gradients, missing_modality, mosi

    if name not in STUDIES:
        raise DataError(f"there is no study '{name}': there are {', '.join(STUDIES)}")
    if seeds < 2:
        raise DataError("an interval over seeds needs at least 2 of them")
    # Denormal numbers, which decaying states are full of, cost a CPU a hundred times what others do.
    torch.set_flush_denormal(True)
    out.mkdir(parents=True, exist_ok=True)
    if name == "gradients":
        command = f".venv/bin/fusionrnn study gradients --out {out} --seeds {seeds}"
        return gradients.run(out, seeds=seeds, quick=quick, command=command)
    if data is None:
        raise DataError(f"the study '{name}' needs the folder of the CMU-MOSI features: give it as --data")
    command = f".venv/bin/fusionrnn study {name} --data FOLDER --out {out} --seeds {seeds}"
    run = mosi.run if name == "mosi" else missing_modality.run
    return run(data, out, seeds=seeds, quick=quick, command=command)
