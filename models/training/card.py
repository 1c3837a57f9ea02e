"""The model card of a trained experiment: what it does, what it was trained on, how good it is, and its limits."""

from collections.abc import Mapping
from typing import Any

from models.config import CheckpointConfig
from models.training.experiment import Experiment
from models.training.markdown import table
from models.training.report import Report

_TASKS = {
    "captioning": "describes its input in a sentence",
    "classification": "sorts its input into classes",
    "embedding": "puts its inputs into one space, where like lies near like",
    "generation": "continues a text",
    "regression": "predicts numbers",
    "transcription": "writes down what is said",
}


def model_card(
    experiment: Experiment, config: CheckpointConfig, report: Report, metrics: Mapping[str, Any], parameters: int
) -> str:
    """``README.md`` in Markdown."""
    lines = [
        f"# {config.name} {config.version}",
        "",
        config.description,
        "",
        "## Use",
        "",
        f"The checkpoint {_TASKS[config.task]}. It takes " + _modalities(config) + ".",
        "",
        table(["part", "type"], _parts(config, parameters)),
        "",
        "## Data",
        "",
        experiment.terms or "Source and terms of the data were not stated (`terms` in the experiment).",
        "",
        *(["The weights go on from those of " + ", ".join(metrics["start"]) + ".", ""] if "start" in metrics else []),
        "```",
        *(line for name, split in report.splits.items() for line in split.lines(name)),
        "```",
        "",
    ]
    if report.faults.found:
        lines += ["What was noticed about the data:", ""]
        lines += [f"- {kind}: {len(items)}" for kind, items in report.faults.found.items()] + [""]
    of = f" of {metrics['total']}" if "total" in metrics else ""
    counted = f"{metrics['n']}{of} examples" + (f" with {metrics['steps']} steps" if "steps" in metrics else "")
    chose = "the epoch and the temperature" if "calibration" in metrics else "the epoch"
    lines += ["## Figures", "", f"On {counted} of `{metrics['split']}`, which also chose {chose}, "]
    lines[-1] += "with 95 % bootstrap intervals:"
    lines += ["", _table({config.name: metrics["figures"]} | dict(metrics.get("baselines", {}))), ""]
    for name, found in metrics.get("alone", {}).items():
        lines += [f"Beside a network of {name} alone, on the {found['n']} examples that have it:", ""]
        lines += [_table({config.name: found["fused"], f"{name} alone": found["figures"]}), ""]
    lines += [
        "## Limits",
        "",
        "The figures hold for data like these. Other recording conditions, languages or subjects, and whatever is not",
        "among the training examples, were not measured.",
        "",
    ]
    if known := metrics.get("novelty"):
        lines += [f"An answer says how new its {' and '.join(known)} is to the network (`novelty`), and has the notice"]
        lines += ["`unfamiliar` where that is above 1, as it is of 2 % of the validation examples.", ""]
    return "\n".join(lines)


def _modalities(config: CheckpointConfig) -> str:
    needed = [name for name, item in config.modalities.items() if item.required]
    free = [name for name in config.modalities if name not in needed]
    said = [", ".join(needed) + (" (required)" if needed else "")] if needed else []
    return " and ".join(
        [*said, *([f"any of {', '.join(free)}" if len(config.modalities) > 1 else free[0]] if free else [])]
    )


def _parts(config: CheckpointConfig, parameters: int) -> list[list[str]]:
    read = config.modalities.items()
    return [
        *([name, f"{item.features.type}, {config.network.encoders[name].type}"] for name, item in read),
        ["fusion", config.network.fusion.type],
        ["head", config.network.head.type],
        ["parameters", f"{parameters:,}"],
    ]


def _table(systems: Mapping[str, Any]) -> str:
    """One row a system and group of figures."""
    rows = [
        (name if group is None else f"{name}, {group}", figures)
        for name, value in systems.items()
        for group, figures in (value.items() if _grouped(value) else [(None, value)])
    ]
    names = list(dict.fromkeys(key for _, figures in rows for key in figures))
    return table(
        ["", *(name.replace("_", " ") for name in names)],
        [[name, *(_cell(figures.get(key)) for key in names)] for name, figures in rows],
    )


def _grouped(value: Mapping[str, Any]) -> bool:
    return all(isinstance(item, Mapping) for item in value.values())


def _cell(value: object) -> str:
    if isinstance(value, list):
        return f"{value[0]:.3g} ({value[1]:.3g} to {value[2]:.3g})"
    return "" if value is None else f"{value:.3g}"
