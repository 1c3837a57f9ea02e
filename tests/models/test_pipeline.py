import copy
import importlib
import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from models.checkpoint import CheckpointError, load_checkpoint
from models.config import CheckpointConfig
from models.media import MediaError, MediaLimits, MediaOutOfBounds, UnsupportedMedia
from models.pipeline import Bundle, Decoded, Pipeline
from models.tasks.captioning import CaptioningResult
from models.tasks.overlay import draw_attention
from tests.models.media.make import recorded, tone
from tests.models.tasks.checkpoints import pipeline as checkpointed
from tests.support import encoded_photo, photo, tiny_captioner, tiny_tokenizer

LIMITS = MediaLimits()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.load(tiny_captioner(tmp_path_factory.mktemp("zoo") / "captioner"))


def clip(frames: int = 12) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for index in range(frames):
            picture = np.asarray(photo(seed=index // 4))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def answer(pipeline: Pipeline, bundle: Bundle, **asked: Any) -> dict[str, Any]:
    return pipeline.answer(bundle, **asked).model_dump(exclude_none=True)


def test_a_photo_gets_captions_in_both_languages(pipeline: Pipeline) -> None:
    english = answer(pipeline, {"image": [encoded_photo()]}, num_captions=3)
    assert len(english["captions"]) == 3
    assert english["captions"][0]["text"].isascii()
    assert english["modalities"] == {"image": {"contribution": 1.0}}
    chinese = answer(pipeline, {"image": [encoded_photo()]}, language="zh")
    assert not any(character.isascii() for character in chinese["captions"][0]["text"])


def test_pictures_and_the_frames_of_a_video_are_attended_together(pipeline: Pipeline) -> None:
    features = pipeline.features(pipeline.decode({"image": [encoded_photo()], "video": [clip()]}, LIMITS))
    assert features.tensors["image"].shape == (4, 3, 64, 64)
    result = answer(pipeline, {"video": [clip()]}, explain=True)
    attention = np.array(result["explanation"]["tokens"][0]["attention"])
    assert attention.shape == (4, 2, 2)
    assert attention.sum() == pytest.approx(1, abs=1e-3)


def test_streamed_tokens_add_up_to_the_whole_answer(pipeline: Pipeline) -> None:
    features = pipeline.features(pipeline.decode({"image": [encoded_photo()]}, LIMITS))
    choices: list[dict[str, object]] = [{}, {"beam_size": 1}, {"temperature": 1.0, "seed": 5}, {"language": "zh"}]
    for options in choices:
        *tokens, last = pipeline.stream(features, pipeline.options.model_validate(options))
        chosen = pipeline.options.model_validate(options)
        whole = pipeline.predict(features, chosen).model_dump(exclude_none=True)
        assert last["result"] == whole
        assert [event["index"] for event in tokens] == list(range(len(tokens)))
        assert (tokens[-1]["text"] if tokens else "") == whole["captions"][0]["text"]


def test_sampling_repeats_with_a_seed_and_varies_without(pipeline: Pipeline) -> None:
    bundle: Bundle = {"image": [encoded_photo()]}
    first = answer(pipeline, bundle, temperature=1.5, seed=1, num_captions=5)
    assert first == answer(pipeline, bundle, temperature=1.5, seed=1, num_captions=5)
    assert first != answer(pipeline, bundle, temperature=1.5, seed=2, num_captions=5)


def test_overlay_is_a_picture(pipeline: Pipeline) -> None:
    decoded = pipeline.decode({"image": [encoded_photo()]}, LIMITS)
    options = pipeline.options.model_validate({"language": "zh"})
    result = pipeline.predict(pipeline.features(decoded), options, explain=True)
    picture = Image.open(io.BytesIO(pipeline.overlay(decoded, result)))
    assert picture.format == "PNG"
    assert picture.width > 224


def test_an_overlay_shows_a_picture_as_the_network_saw_it_without_bars(pipeline: Pipeline) -> None:
    whole = np.asarray(photo())
    result = pipeline.predict(pipeline.features(Decoded({"image": [whole]})), pipeline.options(), explain=True)
    barred = np.pad(whole, ((30, 30), (0, 0), (0, 0)))
    drawn = [pipeline.overlay(Decoded({"image": [picture]}), result) for picture in (whole, barred)]
    assert drawn[0] == drawn[1]


def test_a_caption_without_a_word_has_nothing_to_explain(pipeline: Pipeline) -> None:
    decoded = pipeline.decode({"image": [encoded_photo()]}, LIMITS)
    features = pipeline.features(decoded)
    for seed in range(200):
        options = pipeline.options.model_validate({"temperature": 2.0, "seed": seed})
        if not pipeline.predict(features, options).model_dump()["captions"][0]["text"]:
            break
    result = pipeline.predict(features, options, explain=True)
    assert result.model_dump()["captions"][0]["text"] == ""
    assert result.model_dump()["explanation"]["tokens"] == []
    assert Image.open(io.BytesIO(pipeline.overlay(decoded, result))).format == "PNG"


def test_a_broken_photo_is_a_media_error(pipeline: Pipeline) -> None:
    with pytest.raises(MediaError):
        pipeline.decode({"image": [encoded_photo()[:200]]}, LIMITS)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (Path("photo.jpg"), type(Path()).__name__),
        (None, "NoneType"),
        (photo(), "Image"),
        (np.asarray(photo()), "ndarray"),
        (io.BytesIO(encoded_photo()), "BytesIO"),
        (bytearray(encoded_photo()), "bytearray"),
        (memoryview(encoded_photo()), "memoryview"),
        ([encoded_photo(), None], "NoneType"),
        ([[encoded_photo()]], "list"),
        ({"image": encoded_photo()}, "dict"),
    ],
)
def test_what_is_no_bytes_is_named_with_what_to_give(pipeline: Pipeline, given: Any, kind: str) -> None:
    with pytest.raises(UnsupportedMedia, match=rf"of type {kind}, not the bytes .* Path\.read_bytes\(\)") as error:
        pipeline.answer({"image": given})
    assert error.value.modality == "image"


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_what_another_process_needs_is_said(pipeline: Pipeline, copied: Any) -> None:
    with pytest.raises(TypeError, match="load it in each process"):
        copied(pipeline)


def test_an_empty_list_is_no_medium(pipeline: Pipeline) -> None:
    with pytest.raises(UnsupportedMedia, match="There is no image in the bundle"):
        pipeline.answer({"image": []})


PLUGIN = """
from typing import Literal
import torch
from models.registry import ENCODERS, EncoderConfig
from models.sequence import SequenceOutput, masked_mean

class ColourConfig(EncoderConfig):
    type: Literal["mean-colour"] = "mean-colour"
    width: int = 8

@ENCODERS.register("mean-colour", ColourConfig)
class MeanColour(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.output_size = config.width
        self.layer = torch.nn.Linear(3, config.width)

    def forward(self, x, lengths, state=None):
        sequence = torch.tanh(self.layer(x.float().mean((3, 4)) / 255))
        return SequenceOutput(sequence, lengths, masked_mean(sequence, lengths))
"""


def test_a_users_own_pytorch_encoder_is_saved_verified_and_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.checkpoint import save_checkpoint
    from models.config import CheckpointConfig
    from models.network import FusionRNN

    description = {
        "name": "red-or-blue",
        "version": "1.0.0",
        "task": "classification",
        "description": "Tells red pictures from blue ones.",
        "modalities": {"image": {"required": True, "features": {"type": "pixels", "size": 32}}},
        "network": {
            "encoders": {"image": {"type": "mean-colour", "width": 4}},
            "fusion": {"type": "concat", "width": 4},
            "head": {"type": "classification", "classes": 2},
        },
        "labels": ["red", "blue"],
    }
    with pytest.raises(ValueError, match=r"unknown encoder type 'mean-colour'.*FUSIONRNN_PLUGINS"):
        CheckpointConfig.model_validate(description)
    (tmp_path / "my_encoder.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("my_encoder")
    config = CheckpointConfig.model_validate(description)
    network = FusionRNN(config.network)
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    colours = torch.zeros(2, 1, 3, 32, 32, dtype=torch.uint8)
    colours[0, :, 0], colours[1, :, 2] = 220, 220
    from models.sequence import Padded

    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(
            network({"image": Padded(colours, torch.tensor([1, 1]))}), torch.tensor([0, 1])
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    save_checkpoint(tmp_path / "red-or-blue", config, network)
    served = Pipeline.load(tmp_path / "red-or-blue")
    served.warm_up()
    file = io.BytesIO()
    Image.new("RGB", (50, 40), (10, 20, 230)).save(file, "PNG")
    result = answer(served, {"image": [file.getvalue()]}, top_k=1)
    assert result["predictions"][0]["label"] == "blue"
    assert result["predictions"][0]["probability"] > 0.8
    sys.modules.pop("my_encoder")


def test_a_task_whose_head_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = tiny_captioner(tmp_path / "captioner")
    config = json.loads((folder / "config.json").read_text())
    config["network"]["head"] = {"type": "classification", "classes": 2}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="needs a head of type 'captioning'"):
        Pipeline.load(folder)


@pytest.mark.parametrize(
    ("defaults", "reason"),
    [
        ({"beam_sise": 5}, r"config\.json, defaults has an unknown key 'beam_sise': did you mean 'beam_size'\?"),
        ({"beam_size": 50}, r"config\.json, defaults\.beam_size: Input should be less than or equal to 10"),
        ({"language": "fr"}, r"config\.json, defaults\.language: Input should be 'en' or 'zh'"),
    ],
)
def test_a_folder_with_defaults_that_are_none_is_refused_with_the_key(
    tmp_path: Path, defaults: dict[str, object], reason: str
) -> None:
    folder = tiny_captioner(tmp_path / "captioner")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"defaults": defaults}))
    with pytest.raises(CheckpointError, match=reason) as caught:
        Pipeline.load(folder)
    assert caught.value.folder == folder


def test_media_may_come_alone_or_several_a_part(pipeline: Pipeline) -> None:
    picture = encoded_photo()
    assert answer(pipeline, {"image": picture}) == answer(pipeline, {"image": [picture]})
    text = hearing(**CLASSES, labels=["no", "yes"])
    assert answer(text, {"text": "a dog"}) == answer(text, {"text": [b"a dog"]})


def test_a_bundle_with_more_than_the_model_takes_is_refused_with_what_it_takes(pipeline: Pipeline) -> None:
    misspelt: Any = {"imgae": encoded_photo()}
    with pytest.raises(UnsupportedMedia, match=r"takes no imgae\. It takes image, video\."):
        pipeline.answer(misspelt)
    with pytest.raises(UnsupportedMedia, match=r"takes no audio\. It takes image, video\."):
        pipeline.answer({"image": encoded_photo(), "audio": b""})
    with pytest.raises(MediaOutOfBounds, match="There are 5 parts 'image'") as caught:
        pipeline.answer({"image": [encoded_photo()] * 5})
    assert caught.value.limit == "4 of image"
    with pytest.raises(UnsupportedMedia, match="There is no image in the bundle"):
        pipeline.answer({})


def test_options_are_checked_before_media_are_decoded(pipeline: Pipeline) -> None:
    with pytest.raises(ValidationError, match="less than or equal to 10"):
        pipeline.answer({"image": b"no photo"}, beam_size=50)


def test_a_loaded_and_a_made_checkpoint_run_alike(tmp_path: Path) -> None:
    folder = tiny_captioner(tmp_path / "captioner")
    loaded, made = Pipeline.load(str(folder)), Pipeline(load_checkpoint(str(folder)))
    assert loaded.runtime.name == made.runtime.name == "packed"
    assert loaded.runtime.parts == made.runtime.parts


def test_chinese_words_are_drawn_as_such() -> None:
    pictures = [np.zeros((8, 8, 3), np.uint8)]
    weights = np.ones((1, 2, 2))
    dog, cat, unknown = (draw_attention(pictures, [(word, weights)], title="") for word in ("狗", "猫", "\u0a95"))
    assert len({dog, cat, unknown}) == 3


def hearing(task: str, head: dict[str, Any], *, required: bool = False, **rest: Any) -> Pipeline:
    """A checkpoint of sound and text with random weights."""
    sound = {"required": required, "features": {"type": "log-mel", "n_mels": 8}}
    encoders = {
        "audio": {"type": "audio-rnn", "bands": 8, "channels": [2], "strides": [2], "hidden": 4},
        "text": {"type": "text-rnn", "embedding": 6, "hidden": 8, "vocabulary": tiny_tokenizer().size},
    }
    config = {
        "name": task,
        "version": "0.0.1",
        "task": task,
        "description": "Random weights, for tests.",
        "modalities": {"audio": sound, "text": {"features": {"type": "tokens"}}},
        "network": {"encoders": encoders, "fusion": {"type": "concat", "width": 8}, "head": head},
    }
    return checkpointed(CheckpointConfig.model_validate(config | rest))


CLASSES: dict[str, Any] = {"task": "classification", "head": {"type": "classification", "classes": 2}}
SILENT: Bundle = {"audio": [recorded(np.zeros((8000, 1), np.float32), 16_000)]}


def test_silence_beside_another_modality_is_noticed_and_left_out() -> None:
    served = hearing(**CLASSES, labels=["no", "yes"])
    alone = answer(served, {"text": ["a dog"]}, top_k=2)
    beside = answer(served, {"text": ["a dog"], **SILENT}, top_k=2)
    assert beside == alone | {"notices": {"audio": ["silence"]}}
    loud: Bundle = {"audio": [recorded(tone(440, 0.5, 16_000), 16_000)]}
    assert set(answer(served, {"text": ["a dog"], **loud}, top_k=2)["modalities"]) == {"audio", "text"}


def test_silence_stays_where_there_is_nothing_else_or_it_has_to_be_there() -> None:
    served = hearing(**CLASSES, labels=["no", "yes"])
    assert set(answer(served, SILENT, top_k=2)["modalities"]) == {"audio"}
    assert set(served.blank().tensors) == {"audio", "text"}
    needed = hearing(**CLASSES, labels=["no", "yes"], required=True)
    embedder = hearing("embedding", {"type": "embedding", "size": 4})
    for each in (needed, embedder):
        features = each.features(each.decode({"text": ["a dog"], **SILENT}, LIMITS))
        assert set(features.tensors) == {"audio", "text"}


def test_bundles_are_padded_together_and_what_one_lacks_has_no_step() -> None:
    served = hearing(**CLASSES, labels=["no", "yes"])
    some: list[Bundle] = [
        {"text": "a dog"},
        {"text": "a dog runs in the snow", "audio": recorded(tone(440, 0.5, 16_000), 16_000)},
    ]
    padded = served.padded([served.features(served.decode(bundle)) for bundle in some])
    assert padded["text"].lengths.tolist() == [2, 6]
    assert padded["text"].values[0, 2:].tolist() == [0] * 4
    assert padded["audio"].lengths.tolist() == [0, padded["audio"].values.shape[1]]
    assert not padded["audio"].values[0].any()


def test_where_and_how_it_computes_is_named_where_it_is_unknown(tmp_path: Path) -> None:
    folder = tiny_captioner(tmp_path / "captioner")
    with pytest.raises(ValueError, match="there is no runtime 'fast': ask for auto, torch, packed, bf16"):
        Pipeline.load(folder, runtime="fast")  # type: ignore[arg-type]
    found = "cuda" if torch.cuda.is_available() else "cpu"
    assert Pipeline.load(folder, device="auto").device.type == found
    if found == "cpu":
        with pytest.raises(ValueError, match="torch finds no CUDA device"):
            Pipeline.load(folder, device="cuda")


def test_captions_are_ordered_by_a_score_that_only_python_sees(pipeline: Pipeline) -> None:
    result = pipeline.answer({"image": encoded_photo()}, num_captions=3, length_penalty=0.5, max_length=5)
    assert isinstance(result, CaptioningResult)
    scores = [caption.score for caption in result.captions]
    assert len(set(scores)) == 3
    assert scores == sorted(scores, reverse=True)
    for caption in result.captions:
        # The end is a token, too, but for a caption that is cut.
        length = min(len(caption.text.split()) + 1, 5)
        assert caption.score == pytest.approx(caption.log_probability / length**0.5, abs=1e-3)
        assert caption.model_dump().keys() == {"text", "language", "log_probability"}
