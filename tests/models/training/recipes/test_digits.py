"""The recipe of digits, on made-up media."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import models
from models.checkpoint import load_checkpoint
from models.features import InkFeatures
from models.media.limits import MediaLimits
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.sequence import pad
from models.training.recipes.av_speech.data import SAMPLES, Sentence
from models.training.recipes.classifier import Held
from models.training.recipes.digits import data as digits_data
from models.training.recipes.digits import measure, recipe
from models.training.recipes.digits import printed as print_module
from models.training.recipes.digits.corruption import spoilt_pictures, spoilt_sound
from models.training.recipes.digits.data import DIGITS, MARGIN, MODALITIES, SENTENCES, Maker, Split, load, recorded
from models.training.recipes.digits.pages import on_page
from models.training.recipes.digits.printed import FACES, UNSEEN, printed
from models.training.recipes.digits.recipe import BundleDraw, BundleStage, describe, train
from models.training.recipes.digits.spoken import BESIDE, RATE
from models.training.recipes.digits.words import (
    AROUND,
    FORMS,
    STRANGER,
    among_others,
    garbled,
    misspelt,
    tokenizer,
    written,
)
from models.training.trainer import Schedule
from tests.models.training.recipes.sounds import write_sounds


class Speech:
    """Twenty clips; the digit is said from frame 8 to frame 13, louder than the rest."""

    def __init__(self, folder: Path, cache: Path) -> None:
        pass

    def count(self, split: str) -> int:
        return 20

    def sentence(self, split: str, row: int) -> Sentence:
        lips = torch.arange(20, dtype=torch.uint8)[:, None, None].expand(-1, 48, 64) + row
        sound = 0.1 * torch.ones(20 * SAMPLES)
        sound[8 * SAMPLES : 13 * SAMPLES] = 0.5
        return Sentence(lips, sound, torch.zeros(20), (), (0, 2, 4, 6, 8, 13))

    def text(self, split: str, row: int) -> list[str]:
        return ["bin", "blue", "at", "f", DIGITS[row % 10], "now"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(digits_data, "SpeechData", Speech)
    monkeypatch.setattr(digits_data, "EVERY", 3)
    monkeypatch.setattr(print_module, "COUNT", 1)
    rng = np.random.default_rng(0)
    (tmp_path / "mnist").mkdir()
    pictures = rng.integers(0, 255, (60, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "mnist" / "train.npz", image=pictures, label=np.arange(60) % 10)
    for split in ("train", "val"):
        examples = [{"label": DIGITS[row % 10], "speaker": "ab"[row // 10]} for row in range(20)]
        write_sounds(tmp_path / "fsdd", split, examples)
    return tmp_path


@pytest.fixture
def splits(data: Path) -> dict[str, Split]:
    return load(data, data / "cache")


def maker(split: Split, *, varied: bool) -> Maker:
    words = tokenizer()
    return Maker(split, describe(words), words, varied=varied)


def test_the_command_leaves_a_checkpoint_that_takes_any_of_the_four(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "EPOCHS": 1,
        "PICTURE_EPOCHS": 1,
        "SOUND_EPOCHS": 1,
        "SEEDS": 1,
        "BUNDLES": 10,
        "CHOOSING": 10,
    }.items():
        monkeypatch.setattr(recipe, name, value)
    monkeypatch.setattr(measure, "HALVINGS", 1)
    # Intervals have tests of their own, and take longer than all the rest.
    monkeypatch.setattr(
        measure, "calibrated_figures", lambda found, truth: {"accuracy": [(found.argmax(1) == truth).mean()] * 3}
    )
    train(data, tmp_path / "out", 0)
    metrics = json.loads((tmp_path / "out" / "checkpoint" / "metrics.json").read_text())
    assert metrics["severity"].keys() == set(MODALITIES)
    assert {f"{name}, {kind}" for name in (*MODALITIES, "all four") for kind in ("clean", "spoilt")} <= metrics[
        "figures"
    ].keys()
    assert metrics["unheard_speakers"].keys() == {"a", "b", SENTENCES, "mean"}
    assert "audio out of sentences, every held-back one" in metrics["figures"]
    assert "no recurrence" in metrics["baselines"]
    pipeline = Pipeline.load(tmp_path / "out" / "checkpoint")
    pipeline.warm_up()
    features = pipeline.features(pipeline.decode({"text": ["Sevn!"]}, MediaLimits()))
    answer = pipeline.predict(features, pipeline.options()).model_dump()
    assert answer["modalities"]["text"]["contribution"] == 1


def test_media_of_one_digit_are_joined(splits: dict[str, Split]) -> None:
    train = splits["train"]
    in_print, digits = printed(FACES)
    assert torch.equal(train.pictures[40:], in_print)
    assert torch.equal(train.picture_classes[40:], digits)
    assert len(splits["val"].pictures) == 20
    assert train.lips[3].shape == (5 + 2 * MARGIN, 48, 64)
    assert int(train.lips[3][0, 0, 0]) == 8 - MARGIN + 3
    made = maker(train, varied=False)
    frames = made.video(7, 0.0)
    assert any(torch.equal(frames, train.lips[row]) for row in (7, 17))
    picture = made.image(7, 0.0)
    assert any(torch.equal(picture[0, 0], other) for other in train.pictures[train.picture_classes == 7])


def test_digits_out_of_sentences_are_heard_behind_those_that_were_said_alone(splits: dict[str, Split]) -> None:
    train, asked = splits["train"], splits[SENTENCES]
    assert len(train.sounds) == len(train.sound_classes) == len(train.speakers) == 40
    assert torch.equal(train.sound_classes[20:], torch.arange(20) % 10)
    assert (train.speakers[19], train.speakers[20]) == ("b", SENTENCES)
    digit = 5 * SAMPLES // 2
    torch.manual_seed(0)
    lengths = {len(train.sounds[27]) for _ in range(30)}
    assert len(lengths) > 10
    assert digit <= min(lengths) < max(lengths) <= digit + round(2 * BESIDE * RATE)
    # All of the digit is there, and little of its neighbours.
    loud = asked.sounds[7] > 0.4
    assert len(asked.sounds) == 20
    assert digit - 10 < int(loud.sum()) < digit + 10
    assert int((~loud).sum()) == pytest.approx(0.06 * RATE, abs=20)
    assert torch.equal(splits["val"].pictures, asked.pictures)


def test_print_learned_and_print_asked_for_have_no_face_in_common_and_are_each_digit_alike_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(print_module, "COUNT", 1)
    for families, faces in ((FACES, 15), (UNSEEN, 6)):
        pictures, digits = printed(families)
        assert pictures.shape == (10 * faces, 28, 28)
        assert torch.equal(digits, torch.arange(10).repeat(faces))
        assert float(pictures.flatten(1).max(1).values.min()) == 255
        # Centred: as much ink on the left as on the right, and above as below.
        middle = torch.tensor([13.5, 13.5])
        ink = pictures.double() / pictures.double().sum((1, 2), keepdim=True)
        places = torch.arange(28, dtype=torch.float64)
        centres = torch.stack([(ink.sum(2) * places).sum(1), (ink.sum(1) * places).sum(1)], 1)
        assert (centres - middle).abs().max() < 0.2
    learned, asked = ({file.name for file in print_module.files(families)} for families in (FACES, UNSEEN))
    assert not learned & asked


def test_training_inputs_vary_and_sounds_of_a_batch_are_of_one_length(splits: dict[str, Split]) -> None:
    torch.manual_seed(0)
    made = maker(splits["train"], varied=True)
    sounds = made.batch("audio", torch.arange(10), torch.zeros(10))
    assert len(set(sounds.lengths.tolist())) == 1
    pictures = made.batch("image", torch.full((10,), 3), torch.zeros(10))
    assert pictures.values.shape == (10, 1, 3, 28, 28)
    assert len({tuple(picture.flatten().tolist()) for picture in pictures.values}) == 10


def test_bundles_leave_what_was_learned_of_pictures_as_it_is(splits: dict[str, Split]) -> None:
    network = FusionRNN(describe(tokenizer()).network)
    before = {name: value.clone() for name, value in network.named_parameters()}
    draw = BundleDraw(maker(splits["train"], varied=True))
    schedule = Schedule(epochs=1, metric="score")
    stage = BundleStage(network, draw, 20, Held([]), schedule, rate=1e-2, batch=20)
    optimizer = torch.optim.AdamW(stage.parameter_groups())
    stage.loss(torch.arange(20))[0].backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in changed if name.startswith("encoders")} == {"audio", "text", "video"}
    assert {name.split(".")[2] for name in changed if name.startswith("fusion")} == {"audio", "text", "video"}


def test_the_product_of_beliefs_is_what_is_answered() -> None:
    words = tokenizer()
    network = FusionRNN(describe(words).network).eval()
    inputs = {"text": pad([torch.tensor(words.encode("two"))]), "image": pad([torch.zeros(1, 3, 28, 28).byte()])}
    with torch.inference_mode():
        together = network(inputs).softmax(1)
        alone = [network({name: value}).softmax(1) for name, value in inputs.items()]
    product = alone[0] * alone[1]
    assert torch.allclose(together, product / product.sum(1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize("digit", range(10))
def test_every_way_of_writing_a_digit_can_be_read(digit: int) -> None:
    words = tokenizer()
    for form in FORMS[digit]:
        assert words.unknown not in words.encode(form)
        assert words.encode(f"  {form.upper()}! \U0001f600") == words.encode(form)
    torch.manual_seed(digit)
    found = [written(digit) for _ in range(60)]
    assert all(words.unknown not in words.encode(text) for text in found if STRANGER not in text)
    # Characters that no token stands for are around some of them, and around none that is spelt.
    strange = [text.replace(STRANGER, "") for text in found if STRANGER in text]
    assert strange
    assert set(strange) <= {form for form in FORMS[digit] if not form.isalpha() or not form.isascii()}


def test_a_digit_among_other_words_stays_whole() -> None:
    torch.manual_seed(0)
    found = [among_others("seven").split() for _ in range(100)]
    assert all(words.count("seven") == 1 and set(words) - {"seven"} <= set(AROUND) for words in found)
    assert {words.index("seven") for words in found} == {0, 1, 2, 3, 4}
    # None of them is, or begins like, a digit's own word.
    assert not set(AROUND) & {form for forms in FORMS for form in forms}


def test_a_recording_is_of_another_pace_band_and_room() -> None:
    torch.manual_seed(0)
    sound = torch.randn(RATE)
    found = [recorded(sound) for _ in range(60)]
    assert min(len(x) for x in found) >= RATE / 1.26
    assert max(len(x) for x in found) >= RATE * 1.2
    assert all(x.isfinite().all() for x in found)
    low = [float(torch.fft.rfft(x).abs()[: len(x) * 45 // RATE].mean() / torch.fft.rfft(x).abs().mean()) for x in found]
    assert 10 < sum(share < 0.1 for share in low) < 40, "some are through a telephone"


def test_a_typing_error_is_one_letter_or_two_neighbours() -> None:
    torch.manual_seed(0)
    found = {misspelt("seven") for _ in range(300)}
    assert {len(word) for word in found} == {4, 5, 6}
    for word in found:
        if len(word) == 4:
            assert any(word == "seven"[:place] + "seven"[place + 1 :] for place in range(5))
        elif len(word) == 5:
            changed = [place for place in range(5) if word[place] != "seven"[place]]
            assert len(changed) <= 1 or sorted(word) == sorted("seven")


def test_a_garbled_text_keeps_as_much_as_is_asked() -> None:
    torch.manual_seed(0)
    text = "0" * 2000
    assert garbled(text, 0) == text
    assert garbled(text, 0.4).count("0") == pytest.approx(1200, abs=80)
    assert "0" not in garbled(text, 1.0)
    assert garbled("7", 1.0)


@pytest.mark.parametrize("frames", [1, 6])
def test_pictures_are_spoilt_the_more_the_severer(frames: int) -> None:
    torch.manual_seed(0)
    clean = (torch.arange(28) * 9).expand(frames, 1, 28, 28).to(torch.uint8)
    errors = []
    for severity in (0.0, 0.2, 0.6, 1.0):
        spoilt = [spoilt_pictures(clean, severity) for _ in range(30)]
        assert all(x.shape == clean.shape and x.dtype == torch.uint8 for x in spoilt)
        errors.append(float(torch.stack([(x.float() - clean.float()).abs().mean() for x in spoilt]).mean()))
    assert errors[0] == 0
    assert errors == sorted(errors)


def test_sounds_are_spoilt_by_noise_of_a_stated_level() -> None:
    torch.manual_seed(0)
    clean = 0.1 * torch.sin(torch.arange(8000) / 3)
    assert torch.equal(spoilt_sound(clean, 0.0), clean)
    noise = spoilt_sound(clean, 0.4) - clean
    # 20 - 35 * 0.4 = 6 dB, but for the stretches that fell out.
    kept = noise.abs() < 0.2
    ratio = 10 * np.log10(float(clean[kept].square().mean() / noise[kept].square().mean()))
    assert 1 < ratio < 8


def test_a_digit_on_a_page_lies_anywhere_and_is_read_by_the_shipped_network() -> None:
    drawn = np.zeros((28, 28), np.uint8)
    cv2.polylines(drawn, [np.array([(8, 7), (19, 7), (13, 23)])], False, 255, 2, cv2.LINE_AA)
    torch.manual_seed(0)
    pages = [on_page(drawn) for _ in range(20)]
    assert {page.shape for page in pages} == {(480, 640, 3)}
    darkest = [np.unravel_index(cv2.blur(page[:, :, 0], (5, 5)).argmin(), page.shape[:2]) for page in pages]
    assert np.std(np.array(darkest), axis=0).min() > 40
    shipped = load_checkpoint(Path(next(iter(models.__path__))) / "zoo" / "digits")
    features = shipped.config.modalities["image"].features
    assert isinstance(features, InkFeatures)
    with torch.inference_mode():
        found = shipped.network({"image": pad([features.extract([features.find(page)]) for page in pages])}).argmax(1)
    assert (found == 7).float().mean() >= 0.95
