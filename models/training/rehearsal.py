"""An experiment's network and task, made for data that are made up: what never fits is refused before any are read."""

from typing import TYPE_CHECKING, Any

from models.checkpoint import Checkpoint, skeleton
from models.features.text import TextTokenizer, split_words
from models.tasks import task_of

if TYPE_CHECKING:
    from models.training.experiment import Experiment

_SIZE = 8
"""Of ready vectors."""

_MOST = 100_000
"""Classes."""


def rehearse(experiment: "Experiment") -> None:
    """Make the checkpoint that is to be trained, without weights, and what would serve it.

    What the data dictate is taken as the experiment needs it, and what they have is checked again when it is known.

    Raises:
        ValueError: the parts do not fit each other or the task, or a default is none of the task's, or out of bounds.
    """
    head, fusion, defaults = experiment.head, experiment.fusion, experiment.defaults
    spoken = [word for place in head.get("grammar", ()) for item in place for word in split_words(item)]
    tokenizer = TextTokenizer.build(["word", *spoken], ("en",))
    count = head.get("classes", head.get("outputs", fusion.get("outputs", _least(experiment))))
    config = experiment.checkpoint(
        head={
            "classes": count,
            "outputs": count,
            "languages": (str(defaults.get("language", "en")),),
            "vocabulary": tokenizer.size,
            "blank": tokenizer.pad,
        },
        vocabulary=tokenizer.size,
        vectors={
            name: plan.features.get("size", plan.encoder.get("size", _SIZE))
            for name, plan in experiment.modalities.items()
            if experiment.features(name)["type"] == "vectors"
        },
        labels=[str(label) for label in range(count)] if experiment.task == "classification" else None,
        defaults={},
    )
    # Tasks look at buffers, which have no values on the meta device; here any will do.
    network = skeleton(config.network).to_empty(device="cpu")
    task_of(Checkpoint(config, network, tokenizer, None, None, ""))


def _least(experiment: "Experiment") -> int:
    """Classes, or numbers, that the data must have."""
    if experiment.task != "classification":
        return 1
    most: Any = experiment.defaults.get("top_k")
    return min(max(2, most), _MOST) if isinstance(most, int) else 2
