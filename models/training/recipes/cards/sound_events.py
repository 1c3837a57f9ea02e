"""The card of sound-events."""

from collections.abc import Mapping
from typing import Any

from models.training.markdown import table
from models.training.recipes.cards import calibration, percent, seeds, took

_TEXT = """# sound-events

Says which of ten kinds of sounds a recording holds: {labels}.

Log-mel frames, cut into pictures of 1.28 s; the first 13 blocks of MobileNetV2, which start from ImageNet's weights and
are fine-tuned; a bidirectional GRU of 64 units over six steps a second (a CRNN), a layer of 128 units beside it that
reads the same steps, and the mean of each one's outputs under attention; stored in fp16. In training it also heard
speech and made-up music, as a class more, whose output was dropped in the end, and softly beside three clips in ten.

## Figures

Four-fold cross-validation over the folds 1 to 4 of ESC-10 (320 clips; clips cut from one recording share a fold), in
percent, with 95 % bootstrap intervals over clips. Each network is the one after its last epoch, so that no fold chose
what it measures. The checkpoint itself was trained on all four folds, by as many epochs.

{figures}

Fold by fold: {folds}. {seeds} {calibration} The temperature is that of the cross-validated answers.

**Other recordings.** The checkpoint's accuracy on every eighth clip, which it was trained on, changed and posted as a
file: what matters is how little it falls.

{recordings}

Command: `{command}`. {took}

## Data and terms

- ESC-10 (Piczak 2015), CC BY 3.0: 32 clips of five seconds a class.
- Speech Commands v0.02 (Warden 2018), CC BY 4.0: words, as what is none of the ten.
- MobileNetV2's ImageNet weights (Google, Apache-2.0), from which the convolutions started.

No recording is part of this folder.

## How long a recording may be

Any length: there is one answer for the whole recording, and attention finds the moments that decide it. Of several
sounds one is named.

## Where it fails

- It knows ten sounds and names one of them whatever is heard. Silence is noticed as `silence` in the answer, and as
  `unfamiliar` nearly all speech, most music, and half of machines, but shouts in games and other animals often are not
  ([measured](../../../docs/results/novelty.md)).
- Somebody who talks beside it, and as loudly, takes a sixth of the answers that are right; 10 dB softer, a twentieth
  (`docs/results/sound-events.md`).
- Steady noises resemble each other: rain, sea waves, fire and a helicopter far away make most of the mistakes. See the
  confusion matrix in `docs/results/sound-events.md`.
- 320 clips are few. Microphones, rooms and animals unlike those of the clips were not measured.
"""


def card(metrics: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    figures = metrics["figures"]
    rows = [["sound-events", percent(figures["accuracy"]), percent(figures["macro_f1"])]]
    rows += [[name, percent(value["accuracy"]), ""] for name, value in metrics["baselines"].items()]
    recordings = metrics["recordings"]
    return _TEXT.format(
        labels=", ".join(label.replace("_", " ") for label in metrics["labels"]),
        figures=table(["", "accuracy", "macro F1"], rows),
        folds=", ".join(f"{fold}: {percent(value)}" for fold, value in metrics["folds"].items()),
        seeds=seeds(metrics, metrics["seeds"]["accuracy"]),
        calibration=calibration(metrics),
        recordings=table(list(recordings), [[percent(value) for value in recordings.values()]]),
        command=metrics["command"],
        took=took(metrics),
    )
