"""The stage that trains a network on lips, sound or both."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.decoding.ctc import best_path
from models.features.audio import AudioFeatures
from models.heads.transcription import TranscriptionHead
from models.network import FusionRNN
from models.sequence import Padded, length_mask, pad
from models.training.metrics.words import word_figures
from models.training.objectives import ctc_loss
from models.training.recipes.av_speech.augmentation import (
    FAINTEST,
    LOUDEST,
    askew,
    dropped,
    estrange,
    hasten,
    hear,
    look,
    splice,
    windows,
)
from models.training.recipes.av_speech.data import SAMPLES, Sentence, SpeechData
from models.training.recipes.av_speech.noise import noisy
from models.training.recipes.av_speech.strangers import Strangers
from models.training.recipes.waveforms import chance, choice, log_mel
from models.training.trainer import Schedule, Stage

_VALIDATED = (None, 0.0)
"""Signal-to-noise ratios, in dB, that choose the epoch; None is the clip as it is."""


_HASTENED = 0.6
"""Of the sentences, the share that is said faster or slower."""
_STRANGE = 4
"""Sentences by other voices beside each batch."""
_DUBBED = 0.4
"""Of these, the share that comes with somebody's lips."""
_NOISY, _CLEAR = 0.0, 10.0
"""The least signal-to-noise ratio of other voices in dB, and that of those before lips."""

Alike = Literal["steps", "words"]


class SpeechStage(Stage):
    """CTC and, at each step, the cross-entropy of the word that is being said, which is what makes it converge.

    The second asks nothing else: the timed words, with blanks between them, are one of the paths that CTC sums over.
    With ``alike`` "steps" both count a step: a word's CTC loss would outweigh them eightfold, and begin with epochs in
    which only blanks are written. With "words" CTC counts a word, so that the shortest, letters and prepositions of two
    or three frames, weigh as much as the others.

    A network that cannot look ahead would do best by guessing words before they are said. So with a ``delay`` a word is
    asked for that many frames after it is said, and CTC sums only over paths that write it about then. What the past
    leaves open, a ``teacher`` that hears the whole sentence says how openly: the cross-entropy is then also taken with
    its probabilities at each step, ``delay`` frames late (Kurata and Saon 2020 do so for transducers).

    A ``varied`` speaker also says sentences faster and slower, and is seen by other cameras.

    ``strangers`` are sentences by other voices. Nobody has timed their words, so CTC, or a teacher, is all there is.
    Two in five come with lips that say something else: nobody's lips but the speaker's are known, so a network that
    trusts them whoever speaks is to learn to go by the sound where it is clear.
    """

    def __init__(
        self,
        name: str,
        network: FusionRNN,
        data: SpeechData,
        schedule: Schedule,
        *,
        rate: float,
        encoder_rate: float | None = None,
        batch_size: int = 6,
        spliced: float = 0.5,
        modality_dropout: float = 0.5,
        easy: float = 0.0,
        alike: Alike = "words",
        delay: int = 0,
        teacher: FusionRNN | None = None,
        varied: bool = False,
        strangers: Strangers | None = None,
    ) -> None:
        assert isinstance(network.head, TranscriptionHead)
        self.name, self.schedule = name, schedule
        self.network, self.head, self.data = network, network.head, data
        self.rate, self.encoder_rate = rate, rate if encoder_rate is None else encoder_rate
        self.batch_size, self.spliced, self.modality_dropout = batch_size, spliced, modality_dropout
        self.easy, self.least, self.alike = easy, LOUDEST, alike
        self.delay = delay
        self.teacher = teacher.requires_grad_(False).eval() if teacher else None
        self.varied, self.strangers = varied, strangers
        self.features = AudioFeatures()

    def parameter_groups(self) -> list[dict[str, Any]]:
        encoders = list(self.network.encoders.parameters())
        known = {id(parameter) for parameter in encoders}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = [{"params": others, "lr": self.rate}, {"params": encoders, "lr": self.encoder_rate}]
        return groups if self.encoder_rate else groups[:1]

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        order = torch.randperm(self.data.count("train"), generator=generator)
        return list(torch.split(order, self.batch_size))

    def start_epoch(self, epoch: int) -> None:
        """Noise begins faint, and is as loud as it gets after the share ``easy`` of all epochs."""
        through = min(epoch / (self.easy * self.schedule.epochs), 1.0) if self.easy else 1.0
        self.least = FAINTEST + (LOUDEST - FAINTEST) * through

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        spare = 75 if chance(0.15) else int(torch.randint(2, 25, ()))
        sentences = windows([self._sentence(row) for row in batch.tolist()], spare, self.delay)
        inputs = self.inputs([self._changed(sentence) for sentence in sentences])
        present = dropped(torch.ones(len(batch), len(self.network.modalities), dtype=torch.bool), self._share())
        kept: dict[str, Padded] = {
            name: Padded(inputs[name].values, inputs[name].lengths * present[:, column])
            for column, name in enumerate(self.network.modalities)
        }
        encoded = self.network.encode(kept)
        steps = self.head.steps(encoded)
        with torch.autocast("cpu", enabled=False):  # bfloat16 has too few digits for sums over paths
            scores = self.head.score(steps.sequence.float())
        tokens = pad([torch.tensor(sentence.tokens) for sentence in sentences])
        blank = self.head.config.blank
        labels = pad([delayed(sentence.labels, self.delay) for sentence in sentences]).values[:, : scores.shape[1]]
        paths = timely(scores, labels, blank) if self.delay else scores
        ctc = ctc_loss(paths, steps.lengths, tokens.values, tokens.lengths, blank=blank)
        real = length_mask(steps.lengths, scores.shape[1])
        framewise = F.nll_loss(scores[real], labels[real])
        share = float(tokens.lengths.sum() / steps.lengths.sum()) if self.alike == "steps" else 1.0
        loss = share * ctc + framewise
        figures = {"ctc": float(ctc.detach()), "framewise": float(framewise.detach())}
        if self.teacher is not None:
            taught = disagreement(scores[real], self._taught(self.teacher, kept)[real])
            loss, figures = loss + taught, figures | {"taught": float(taught.detach())}
        if self.strangers is not None:
            strange = self._strange(self.strangers)
            loss, figures = loss + strange, figures | {"strangers": float(strange.detach())}
        return loss, figures

    def _strange(self, strangers: Strangers) -> Tensor:
        """The loss of sentences by other voices, some before lips that say something else: CTC, or what is taught."""
        drawn = [self._stranger(strangers) for _ in range(_STRANGE)]
        inputs = {"audio": log_mel(self.features, [sound for sound, _, _ in drawn])}
        lips = [lips for _, lips, _ in drawn]
        if any(one is not None for one in lips):
            inputs["video"] = pad(lips)
        steps = self.head.steps(self.network.encode(inputs))
        with torch.autocast("cpu", enabled=False):
            scores = self.head.score(steps.sequence.float())
        if self.teacher is not None:  # which knows when, too
            real = length_mask(steps.lengths, scores.shape[1])
            return disagreement(scores[real], self._taught(self.teacher, inputs)[real])
        tokens = pad([tokens for _, _, tokens in drawn])
        return ctc_loss(scores, steps.lengths, tokens.values, tokens.lengths, blank=self.head.config.blank)

    def _stranger(self, strangers: Strangers) -> tuple[Tensor, Tensor | None, Tensor]:
        """Sound, lips and tokens of a sentence by another voice."""

        def voice() -> Tensor:
            return self._other().sound if chance(0.5) else strangers.draw()[0]

        sound, tokens = strangers.draw()
        if "video" not in self.network.modalities or not chance(_DUBBED):
            return estrange(sound, voice, least=_NOISY), None, tokens
        # In noise lips are to be trusted; lips that contradict a clear sound are not.
        sound = estrange(sound, voice, least=_CLEAR)
        lips, frames = self._other().lips, -(-len(sound) // SAMPLES)
        lips = lips[(choice(len(lips)) + torch.arange(frames)) % len(lips)]
        return sound, look(askew(lips)), tokens

    @torch.no_grad()
    def _taught(self, teacher: FusionRNN, inputs: dict[str, Padded]) -> Tensor:
        """The teacher's probabilities [B, T, V] of the same inputs, late by the delay; blank before them."""
        head = teacher.head
        assert isinstance(head, TranscriptionHead)
        steps = head.steps(teacher.encode(inputs))
        with torch.autocast("cpu", enabled=False):
            known = head.score(steps.sequence.float()).exp()
        late = known.roll(self.delay, 1)
        late[:, : self.delay] = F.one_hot(torch.tensor(head.config.blank), known.shape[2]).float()
        return late

    def inputs(self, sentences: Sequence[Sentence]) -> dict[str, Padded]:
        """What the network reads of the sentences, all modalities that it has."""
        made: dict[str, Padded] = {}
        if "audio" in self.network.modalities:
            made["audio"] = log_mel(self.features, [sentence.sound for sentence in sentences])
        if "video" in self.network.modalities:
            made["video"] = pad([sentence.lips for sentence in sentences])
        return made

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Word error rates of the most probable path, lips always whole; ``score`` is minus their mean."""
        names = self.network.modalities
        levels = _VALIDATED if "audio" in names else (None,)
        found = {"wer" if level is None else f"wer_{level:g}_db": self._errors(level, names) for level in levels}
        if len(names) > 1:
            found["wer_lips"] = self._errors(None, ["video"])
        return found | {"score": -sum(found.values()) / len(found)}

    def _errors(self, level: float | None, names: Sequence[str]) -> float:
        """With only the modalities ``names`` posted."""
        rows = range(self.data.count("val"))
        written = []
        for first in range(0, len(rows), 25):
            part = rows[first : first + 25]
            sentences = [noisy(self.data.sentence("val", row), self.data, row, level) for row in part]
            inputs = self.inputs(sentences)
            encoded = self.network.encode({name: inputs[name] for name in names})
            steps = self.head.steps(encoded)
            found = best_path(self.head.score(steps.sequence), steps.lengths, blank=self.head.config.blank)
            written += [self.data.tokenizer.words(transcript.tokens) for transcript in found]
        return word_figures(written, [self.data.text("val", row) for row in rows]).values()["wer"]

    def _sentence(self, row: int) -> Sentence:
        sentence = self.data.sentence("train", row)
        sentence = splice(sentence, self._other()) if chance(self.spliced) else sentence
        return hasten(sentence) if self.varied and chance(_HASTENED) else sentence

    def _other(self) -> Sentence:
        return self.data.sentence("train", choice(self.data.count("train")))

    def _changed(self, sentence: Sentence) -> Sentence:
        lips, sound = sentence.lips, sentence.sound
        if "video" in self.network.modalities:
            lips = look(askew(lips) if self.varied else lips)
        if "audio" in self.network.modalities:
            sound = hear(sound, lambda: self._other().sound, least=self.least)
        return Sentence(lips, sound, sentence.labels, sentence.tokens, sentence.borders)

    def _share(self) -> float:
        return self.modality_dropout if len(self.network.modalities) > 1 else 0.0


_SLACK = 2
"""Frames by which a word may be written too early or too late."""
_UNTIMELY = -20.0
"""Log-probability of a word anywhere else: finite, for the frame that it should be in may have been cut off."""


def disagreement(scores: Tensor, probabilities: Tensor) -> Tensor:
    """The cross-entropy of log-probabilities [N, V] with a teacher's probabilities, in the mean."""
    return -(probabilities * scores).sum(1).mean()


def delayed(labels: Tensor, frames: int) -> Tensor:
    """Labels [T], each ``frames`` later; nothing, which is the label 0, is said in the first ones."""
    return F.pad(labels, (frames, 0))[: len(labels)] if frames else labels


def timely(scores: Tensor, labels: Tensor, blank: int) -> Tensor:
    """Log-probabilities [B, T, V] of which words are as good as impossible but near their ``labels`` [B, T]."""
    said = F.one_hot(labels, scores.shape[2]).float().transpose(1, 2)
    near = F.max_pool1d(said, 2 * _SLACK + 1, 1, _SLACK).transpose(1, 2).bool()
    near[..., blank] = True
    return scores.masked_fill(~near, _UNTIMELY)
