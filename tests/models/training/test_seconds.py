"""How long a transcribed step lasts, where that can be said at all."""

from typing import Any

import pytest

from models.config import CheckpointConfig
from models.network import FusionRNN
from models.training.run import seconds_per_step
from tests.support import tiny_tokenizer

LOG_MEL = {"type": "log-mel", "n_mels": 16}
SOUND = {"type": "audio-rnn", "bands": 16, "hidden": 8, "channels": [4, 4], "strides": [2, 2]}
MOUTH = {"type": "mouth", "height": 16, "width": 16, "fps": 25}
LIPS = {"type": "lips-rnn", "height": 16, "width": 16, "hidden": 8, "channels": [4, 8], "vector": 8}
FRAMES = {"type": "frames", "size": 16, "fps": 10}
FILM = {"type": "video-rnn", "channels": [4, 8], "width": 8, "hidden": 8}
TOGETHER, APART = {"type": "recurrent", "hidden": 8}, {"type": "concat", "width": 8}


@pytest.mark.parametrize(
    ("parts", "fusion", "seconds"),
    [
        ({"audio": (LOG_MEL, SOUND)}, APART, 0.04),
        ({"audio": (LOG_MEL, SOUND)}, TOGETHER, 0.04),
        # A hop is a whole number of samples: 220 of 22,050 a second, not 220.5.
        ({"audio": (LOG_MEL | {"sample_rate": 22_050}, SOUND)}, APART, 4 * 220 / 22_050),
        ({"audio": (LOG_MEL, SOUND), "video": (MOUTH, LIPS)}, TOGETHER, 0.04),
        # One is read behind the other.
        ({"audio": (LOG_MEL, SOUND), "video": (MOUTH, LIPS)}, APART, None),
        # The steps are those of the longer one, where it is there.
        ({"audio": (LOG_MEL, SOUND), "video": (MOUTH | {"fps": 10}, LIPS)}, TOGETHER, None),
        # Of a video of more than max_frames they are further apart.
        ({"video": (FRAMES, FILM)}, APART, None),
    ],
)
def test_a_step_lasts_as_long_in_every_bundle_or_nothing_is_said(
    parts: dict[str, tuple[dict[str, Any], dict[str, Any]]], fusion: dict[str, Any], seconds: float | None
) -> None:
    config = CheckpointConfig.model_validate(
        {
            "name": "writer",
            "version": "0.0.1",
            "task": "transcription",
            "description": "Random weights, for tests.",
            "modalities": {name: {"features": features} for name, (features, _) in parts.items()},
            "network": {
                "encoders": {name: encoder for name, (_, encoder) in parts.items()},
                "fusion": fusion,
                "head": {"type": "transcription", "vocabulary": tiny_tokenizer().size},
            },
        }
    )
    assert seconds_per_step(config, FusionRNN(config.network)) == (seconds and pytest.approx(seconds, rel=1e-9))
