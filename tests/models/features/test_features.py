"""What each kind of features makes of media, and what it notices."""

import io
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from models.features import (
    FEATURES,
    AudioFeatures,
    Features,
    ImageFeatures,
    TextFeatures,
    VectorFeatures,
    VideoFeatures,
)
from models.features.borders import unbarred
from models.features.features import Sources
from models.features.text import TextTokenizer
from models.media import Audio, MediaError, MediaLimits, MediaTooLarge
from tests.models.media.make import clip, encoded, number, numbered, recorded, tone
from tests.support import encoded_photo, noticed, photo, tiny_tokenizer

LIMITS = MediaLimits()


def read(features: Features, modality: Any, sources: Sources, room: int = 4) -> torch.Tensor:
    return features.extract(features.decode(modality, sources, LIMITS, room), tiny_tokenizer())


def npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


@pytest.mark.parametrize("name", FEATURES.names())
def test_a_warm_up_needs_no_media_and_notices_take_the_same(name: str) -> None:
    features = FEATURES.parse(FEATURES.parse({"type": name, "size": 16} if name == "vectors" else {"type": name}))
    assert isinstance(features, Features)
    blank = features.blank()
    tensor = features.extract(blank, tiny_tokenizer())
    assert len(tensor) >= 1
    assert torch.isfinite(tensor.float()).all()
    assert isinstance(noticed(features, blank), list)
    assert type(features).tiny().type == name


def test_sound_is_a_frame_a_hop_scaled_by_the_constants() -> None:
    features = AudioFeatures(mean=1.0, std=2.0)
    frames = read(features, "audio", {"audio": [recorded(tone(440, 1, 16_000), 16_000)]})
    assert frames.shape == (100, 64)
    assert frames.dtype == torch.float32
    heard = features.decode("audio", {"audio": [recorded(tone(440, 1, 16_000), 16_000)]}, LIMITS, 1)
    torch.testing.assert_close(frames, (features.log_mel()(heard[0].samples) - 1) / 2)
    # 440 Hz is 549 mel; the bands' centres are 43.2 mel apart from 31.7 on.
    assert int(frames[50].argmax()) == round((549.6 - 31.7) / 43.2) - 1


def test_sound_is_the_posted_one_else_the_videos() -> None:
    features = AudioFeatures()
    low, high = (recorded(tone(hz, 0.5, 16_000), 16_000) for hz in (200, 3000))
    filmed = clip(10, sound=tone(3000, 1))
    assert int(read(features, "audio", {"audio": [low], "video": [filmed]}).mean(0).argmax()) < 10
    from_video = read(features, "audio", {"video": [filmed]})
    assert int(from_video.mean(0).argmax()) == int(read(features, "audio", {"audio": [high]}).mean(0).argmax())
    assert features.decode("audio", {"video": [clip(3)]}, LIMITS, 1) == []
    assert len(read(features, "audio", {"audio": [low, high]})) == 100
    assert len(read(features, "audio", {"audio": [low, high]}, room=1)) == 50


def test_silence_and_what_is_cut_are_noticed() -> None:
    features = AudioFeatures(max_seconds=0.5)
    quiet, loud = (Audio(np.full(4000, level, np.float32), 16_000) for level in (9e-4, 2e-3))
    assert noticed(features, [quiet]) == ["silence"]
    assert noticed(features, [quiet, loud]) == []
    late = Audio(np.concatenate([np.zeros(8000, np.float32), loud.samples]), 16_000)
    assert noticed(features, [late]) == ["silence", "truncated"]
    assert features.extract([late]).shape == (50, 64)
    assert torch.equal(features.extract([late]), features.extract([Audio(late.samples[:8000], 16_000)]))


def test_video_is_frames_at_even_distances() -> None:
    source: Sources = {"video": [clip([numbered(index, 32, 32) for index in range(20)])]}
    frames = read(VideoFeatures(size=32, max_frames=5), "video", source)
    assert frames.shape == (5, 3, 32, 32)
    assert frames.dtype == torch.uint8
    shown = [number(frame.permute(1, 2, 0).numpy()) for frame in frames]
    assert [late - early for early, late in pairwise(shown)] == [4, 4, 4, 4]


def test_photos_and_the_frames_of_a_video_fit_in_the_room() -> None:
    photo = encoded_photo()
    features = ImageFeatures(size=16)
    for photos, room, found in ((3, 2, 2), (2, 2, 2), (1, 4, 4), (0, 1, 1)):
        source: Sources = {"image": [photo] * photos, "video": [clip(9)]}
        assert len(read(features, "image", source, room)) == found


def framed(top: int, bottom: int, left: int = 0, right: int = 0, colour: int = 0) -> NDArray[np.uint8]:
    """A smooth picture of 60 x 80 between bars."""
    whole = np.asarray(photo(80, 60)) // 2 + 60
    return np.pad(whole, ((top, bottom), (left, right), (0, 0)), constant_values=colour)


@pytest.mark.parametrize("bars", [(20, 20), (0, 0, 25, 30), (12, 30, 10, 10), (20, 20, 0, 0, 255)])
def test_bars_around_a_picture_are_cut_off_and_noticed(bars: tuple[int, ...]) -> None:
    features = ImageFeatures(size=16)
    whole, barred = framed(0, 0), framed(*bars)
    assert torch.equal(features.extract([barred]), features.extract([whole]))
    assert noticed(features, [whole, barred]) == ["borders"]
    assert noticed(features, [whole]) == []
    jpeg = features.decode("image", {"image": [encoded(barred, "JPEG")]}, LIMITS, 1)
    assert noticed(features, jpeg) == ["borders"]


def test_what_is_a_pictures_own_is_not_cut_off() -> None:
    sky = framed(30, 0, colour=230)  # on one side only
    thin = framed(1, 1)
    ground = np.full((100, 100, 3), 250, np.uint8)
    flat = ground.copy()
    ground[20:80, 30:70] = framed(0, 0)[:, :40]
    matrix = cv2.getRotationMatrix2D((50, 50), 30, 1)
    slanted = np.asarray(cv2.warpAffine(ground, matrix, (100, 100), borderValue=(250,) * 3), np.uint8)
    for picture in (sky, thin, flat, slanted):
        assert unbarred(picture) is picture
    assert unbarred(ground).shape == (60, 40, 3)


def test_video_at_a_rate_has_as_many_frames_as_that_gives_until_they_are_too_many() -> None:
    source: Sources = {"video": [clip([numbered(index, 32, 32) for index in range(20)])]}  # two seconds
    paced = read(VideoFeatures(size=32, max_frames=64, fps=5), "video", source)
    assert [number(frame.permute(1, 2, 0).numpy()) for frame in paced] == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]
    # However few are kept of how many, a step means the same time: 3.7 seconds at 30 frames a second.
    longer: Sources = {"video": [clip([numbered(index, 32, 32) for index in range(111)], rate=30)]}
    few = read(VideoFeatures(size=32, max_frames=16, fps=4), "video", longer)
    assert [number(frame.permute(1, 2, 0).numpy()) for frame in few] == [int((k + 0.5) * 7.5) for k in range(15)]
    assert len(read(VideoFeatures(size=32, max_frames=4, fps=5), "video", source)) == 4
    assert len(read(VideoFeatures(size=32, max_frames=64, fps=60), "video", source)) == 20
    assert len(read(VideoFeatures(size=32, max_frames=64, fps=0.1), "video", source)) == 1


def test_grey_is_luma() -> None:
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    grey = VideoFeatures(size=8, colours="grey").extract([red])
    assert grey.shape == (1, 1, 8, 8)
    assert set(grey.flatten().tolist()) == {60}


def test_text_is_the_tokenizers_ids_and_never_nothing() -> None:
    features, tokenizer = TextFeatures(max_tokens=3), tiny_tokenizer()
    assert read(features, "text", {"text": ["A dog, runs"]}).tolist() == tokenizer.encode("a dog runs")
    assert read(features, "text", {"text": ["a dog", b"runs in snow"]}).tolist() == tokenizer.encode("a dog runs")
    assert read(features, "text", {"text": ["🐕"]}).tolist() == [tokenizer.unknown]
    assert read(features, "text", {"text": ["Αθήνα"]}).dtype == torch.int64
    with pytest.raises(ValueError, match="there is none"):
        features.extract(["a"])


def test_unknown_words_and_what_is_cut_are_noticed() -> None:
    features = TextFeatures(max_tokens=4)
    assert noticed(features, ["a dog purrs softly"]) == []
    assert noticed(features, ["a cat purrs softly"]) == ["unknown_words"]
    assert noticed(features, ["🐕"]) == ["unknown_words"]
    assert noticed(features, ["a dog runs in snow"]) == ["truncated"]


def test_unknown_emoji_are_no_unknown_words_beside_known_ones() -> None:
    features, tokenizer = TextFeatures(max_tokens=8), TextTokenizer.build(["great", "!"], marks=True)

    def said(text: str) -> list[str]:
        return features.notices([text], features.extract([text], tokenizer), tokenizer)

    assert said("great 🎬🎬🎬!") == []
    assert said("great vfx and wow") == ["unknown_words"]
    assert said("🎬🎬") == said("!") == said("wow 🎬") == ["unknown_words"]
    # Those that a network has learned say as much as words do.
    tokenizer = TextTokenizer.build(["great", "!", "😍"], marks=True)
    assert said("😍😍") == said("😍!") == []
    assert said("🎬") == ["unknown_words"]


@pytest.mark.parametrize("words", [("今", "天"), ("今", "天", "今天")])
def test_pairs_of_characters_are_no_further_words(words: tuple[str, ...]) -> None:
    features, tokenizer = TextFeatures(), TextTokenizer.build(words)

    def said(text: str) -> list[str]:
        return features.notices([text], features.extract([text], tokenizer), tokenizer)

    assert said("今天今天龙马精神鱼跃龙门🦕") == said("今天龙马精") == ["unknown_words"]
    assert said("今天今天龙马精") == []


def test_more_numerals_than_a_network_knows_together_are_noticed() -> None:
    single = TextFeatures(max_numerals=1)
    for text in ("a dog 7", "a dog 7\ufe0f\u20e3", "a dog \uff17", "a dog"):
        assert noticed(single, [text]) == []
    for text in ("a dog in the snow 1.0", "a dog in the snow 1000", "一只小狗在雪地里，二十七"):
        assert noticed(single, [text]) == ["several_numerals"]
        assert noticed(TextFeatures(), [text]) == []


def test_markup_is_no_text() -> None:
    features, tokenizer = TextFeatures(), tiny_tokenizer()
    assert read(features, "text", {"text": ["a<br />dog&nbsp;runs"]}).tolist() == tokenizer.encode("a dog runs")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "|i1", "<i8", "<u2"])
def test_vectors_of_any_number_are_read(dtype: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)
    for stored in (values, np.asfortranarray(values)):
        read_back = read(VectorFeatures(size=3), "video", {"video": [npy(stored)]})
        assert read_back.dtype == torch.float32
        assert read_back.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read(VectorFeatures(size=3), "text", {"text": [npy(values[1])]}).tolist() == [[3, 4, 5]]


def test_the_longest_sequence_in_double_precision_is_no_more_than_a_part_may_have() -> None:
    features = VectorFeatures(size=3, max_steps=5)
    most = features.most_bytes("video", MediaLimits())
    assert len(npy(np.zeros((5, 3)))) <= most
    with pytest.raises(MediaTooLarge, match="more than 5 vectors"):
        read(features, "video", {"video": [bytes(most + 1)]})


def test_vectors_that_cannot_be_used_are_refused_with_the_reason() -> None:
    good = npy(np.zeros((2, 3), np.float32))
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}, 1], dtype=object), allow_pickle=True)
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)})
    for data, detail, limit in (
        (b"\xff\xd8\xff\xe0", "recognized by its content as JPEG", None),
        ("some words", "recognized by its content as plain text", None),
        (b"", "no known format", None),
        (pickled.getvalue(), "not of numbers", None),
        (npy(np.zeros((2, 3), np.complex64)), "not of numbers", None),
        (npy(np.zeros((2, 3), "U4")), "not of numbers", None),
        (npy(np.zeros((2, 4))), "the shape 2 x 4", "3 numbers a vector"),
        (npy(np.zeros((1, 2, 3))), "the shape 1 x 2 x 3", "3 numbers a vector"),
        (npy(np.float32(1)), "the shape a single number", "3 numbers a vector"),
        (npy(np.zeros((0, 3))), "has 0 vectors", "5 vectors"),
        (npy(np.zeros((6, 3))), "has 6 vectors", "5 vectors"),
        (huge.getvalue(), "has 1000000000000 vectors", "5 vectors"),
        (npy(np.zeros((1000, 3))), "more than 5 vectors", "5 vectors"),
        (good[:-1], "not as long as its header says", None),
        (good + b"x", "not as long as its header says", None),
        (good[:40], "header is broken", None),
        (b"\x93NUMPY\x09\x00" + good[8:], "header is broken", None),
        (good.replace(b"<f4", b"(("), "header is broken", None),
        (npy(np.array([[0, np.nan, 0]])), "NaN", "2147483648"),
        (npy(np.array([[0, 1e300, 0]])), "beyond 2147483648", "2147483648"),
        (npy(np.array([[0, -1e38, 0]])), "beyond 2147483648", "2147483648"),
    ):
        with pytest.raises(MediaError, match="The audio") as caught:
            read(VectorFeatures(size=3, max_steps=5), "audio", {"audio": [data]})
        assert detail in caught.value.detail
        assert (caught.value.modality, caught.value.limit) == ("audio", limit)
        assert caught.value.remedy.startswith("Send ")


def test_frames_that_would_fill_the_memory_are_refused_by_their_config() -> None:
    assert VideoFeatures(size=256, max_frames=4096).size == 256
    with pytest.raises(ValidationError, match="choose fewer or smaller ones"):
        VideoFeatures(size=1024, max_frames=4096)
