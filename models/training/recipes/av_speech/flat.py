"""What ``av-speech`` would have without recurrence: the baseline for its page and its card.

python -m models.training.recipes.av_speech.flat CHECKPOINT --data FOLDER --out runs/av-speech-flat

All three recurrent networks, of the lips, of the sound and of what both are together, are replaced by a layer that sees
one step. The convolutions, which see five frames of lips and about as much of the sound, go on from the checkpoint's
weights and learn with it, so that the baseline does not begin behind. Those of ``av-speech-live`` see only what was, so
a word is asked of them late by half of that: they see as much before and after it as those of ``av-speech`` then.
"""

import argparse
import json
from pathlib import Path

import torch

from models.checkpoint import METRICS, load_checkpoint
from models.features.mouth import MouthFeatures
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.training.recipes.av_speech.stage import SpeechStage
from models.training.recipes.av_speech.study import FLAT_EPOCHS, figures, flat_baselines, speech_data, transcribe
from models.training.recipes.classifier import stepwise
from models.training.trainer import Schedule, Stage, Trainer

CENTRED = 2
"""Frames by which a word is asked for late of convolutions that see five frames, none of them to come."""


def flatten(network: FusionRNN) -> None:
    """Take the recurrent networks out of a fused speech network; what it makes of lips and sound is as before."""
    for part in (*network.encoders.values(), network.fusion):
        part.rnn = stepwise(part.rnn)


def train(checkpoint: Path, data_folder: Path, out: Path, seed: int) -> None:
    """Train in ``out``, resuming what is there, and write the word error rates into the checkpoint's metrics.

    Raises:
        DataError: the data are missing or are not GRID sentences.
        CheckpointError: ``checkpoint`` is not a usable one.
    """
    loaded = load_checkpoint(checkpoint)
    network = loaded.network
    torch.manual_seed(seed)
    flatten(network)
    pipeline = Pipeline(loaded, runtime="torch")
    data = speech_data(pipeline, data_folder, out / "cache")
    lips = pipeline.config.modalities["video"].features
    assert isinstance(lips, MouthFeatures)
    delay = CENTRED if lips.causal else 0
    schedules = [
        Schedule(epochs=epochs, metric="score", patience=epochs, averaging=0.99, bf16=True, weight_decay=1e-2)
        for epochs in FLAT_EPOCHS
    ]
    first, second = schedules
    stages: list[Stage] = [
        SpeechStage("flat", network, data, first, rate=2e-3, encoder_rate=1e-3, alike="steps", delay=delay),
        SpeechStage("flat-2", network, data, second, rate=1e-3, delay=delay),
    ]
    Trainer(network, stages, out, seed=seed).run()
    network.eval()
    named = flat_baselines(figures(transcribe(pipeline, data, join=False)))
    metrics = dict(loaded.metrics or {})
    metrics["baselines"] = metrics.get("baselines", {}) | named
    (checkpoint / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(named, indent=2), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and val.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train(given.checkpoint, given.data, given.out, given.seed)


if __name__ == "__main__":
    main()
