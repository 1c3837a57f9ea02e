from pathlib import Path

import pytest

from models.features import FEATURES, Features
from models.training.augmentation import AUGMENTATIONS, FITTING
from models.training.experiment import ExperimentError, load_experiment
from tests.models.training.data import IMAGE, TEXT, VECTORS, make_experiment
from tests.support import tiny_tokenizer

MINIMAL = """
name = "cats"
task = "classification"

[modalities.image]
[modalities.text]
"""


def load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "my.toml"
    path.write_text(text)
    return load_experiment(path)


def test_a_few_lines_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(MINIMAL)
    experiment = load_experiment(path)
    config = experiment.checkpoint(
        head={"classes": 2, "outputs": 2}, vocabulary=50, vectors={}, labels=["cat", "dog"], defaults={}
    )
    assert {name: item.features.type for name, item in config.modalities.items()} == {
        "image": "pixels",
        "text": "tokens",
    }
    assert config.network.encoders["text"].model_dump()["vocabulary"] == 50
    assert (config.network.fusion.type, config.network.head.model_dump()["classes"]) == ("concat", 2)


def test_every_part_may_be_named_by_its_type_alone(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('fusion = "tensor"\nhead = "classification"\n' + MINIMAL + 'encoder = "text-bag"\n')
    experiment = load_experiment(path)
    assert experiment.fusion_table() == {"type": "tensor"}
    assert experiment.head_table({}) == {"type": "classification"}
    assert experiment.encoder("text")["type"] == "text-bag"


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(MINIMAL, encoding="utf-8-sig")
    assert load_experiment(path).name == "cats"


def test_sizes_of_ready_vectors_and_of_decisions_come_from_the_data(tmp_path: Path) -> None:
    path = make_experiment(tmp_path / "my.toml", "classification", VECTORS, IMAGE, '[fusion]\ntype = "decision"\n')
    config = load_experiment(path).checkpoint(
        head={"classes": 3, "outputs": 3}, vocabulary=0, vectors={"video": 7}, labels=["a", "b", "c"], defaults={}
    )
    assert config.modalities["video"].features.model_dump()["size"] == 7
    assert config.network.encoders["video"].model_dump()["size"] == 7
    assert config.network.fusion.model_dump()["outputs"] == 3
    assert config.network.head.type == "decision"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL + "[trainign]\nepochs = 3", r"unknown key 'trainign': did you mean 'training'\?"),
        (MINIMAL + "[training]\nepoch = 3", r"\[training\] has an unknown key 'epoch': did you mean 'epochs'\?"),
        (MINIMAL + "[modalities.sound]", r"no 'sound': known are audio, image, text, video"),
        (MINIMAL.replace("classification", "clasification"), r"no task 'clasification': did you mean 'classification'"),
        (MINIMAL + 'encoder = "text-rn"', r"\[modalities.text.encoder\].*'text-rn': did you mean 'text-rnn'\?"),
        (MINIMAL + 'encoder = { type = "text-rnn", hiden = 3 }', r"unknown key 'hiden': did you mean 'hidden'\?"),
        (MINIMAL + 'encoder = { type = "text-rnn", hidden = 0 }', r"hidden: .*greater than or equal to 1"),
        (MINIMAL + 'augment = ["miror"]', r"no augmentation 'miror': did you mean 'mirror'\?"),
        (MINIMAL + 'augment = ["noise"]', r"\[modalities.text\] augment: 'noise' .*'tokens', which take none"),
        (MINIMAL + '[modalities.audio]\naugment = ["mirror"]', r"'mirror' .*'log-mel', which take mask-time, mask-f.*"),
        (MINIMAL + '[modalities.audio]\naugment = ["shift"]', r"'shift' does not fit features 'log-mel'"),
        (MINIMAL + '[modalities.video]\naugment = ["noise"]', r"'noise' .*'frames', which take mirror, shift"),
        (
            MINIMAL.replace("classification", "captioning") + '[fusion]\ntype = "decision"',
            r"\[fusion\] type 'decision' takes votes .*'captioning' does not ask for: choose another",
        ),
        (
            MINIMAL + '[modalities.audio]\nencoder = "text-rnn"',
            r"\[modalities.audio\] a 'text-rnn' encoder reads tokens, not the .* of audio: what does is audio-rnn",
        ),
        (MINIMAL.replace("task", 'target = "text"\ntask'), r"my.toml: 'text' is read as a modality"),
        (MINIMAL + '[fusion]\ntype = "weighted-sum"\nmode = "gated"\nweights = { image = 2.0 }', r"\[fusion\] weights"),
        (MINIMAL + '[fusion]\ntype = "tensr"', r"\[fusion\].*'tensr': did you mean 'tensor'\?"),
        (MINIMAL + "[head]\ndropuot = 0.1", r"\[head\].*'dropuot': did you mean 'dropout'\?"),
        (MINIMAL + "[training]\nrate = -1", r"training.rate: .*greater than 0"),
        (MINIMAL.replace("[modalities.image]\n[modalities.text]", ""), r"modalities: Field required"),
        (MINIMAL + '[head]\nper = "step"', r"as many targets as steps.*'vectors': \[modalities.image\] has 'pixels'"),
        (MINIMAL + '[head]\nper = "utterance"', r"\[head\] per: Input should be 'bundle' or 'step'"),
        (MINIMAL.replace("classification", "captioning") + '[head]\nper = "step"', r"\[head\].* unknown key 'per'"),
        (
            MINIMAL + '[fusion]\ntype = "contextual"',
            r"'contextual' needs as many steps of each modality.* \[modalities.image\] has 'pixels'; give vectors, or",
        ),
        (MINIMAL.replace("[modalities.image]", '[training]\nbalance = "ogm-ge"'), r"balance .*: name at least two"),
        (MINIMAL + '[training]\ncontrastive_loss = "max-violation"', r"contrastive_loss is for the task 'embedding'"),
        (MINIMAL + "[defaults]\nbeam_size = 9", r"defaults has an unknown key 'beam_size': known are tem"),
        (MINIMAL + "[defaults]\ntemperature = -1", r"defaults.temperature is -1: it must be a number above 0"),
        (MINIMAL + "[defaults]\ntop_k = 0", r"defaults.top_k: Input should be greater than or equal to 1"),
        (MINIMAL + f"[defaults]\ntop_k = {10**12}", r"defaults.top_k: Input should be less than or equal to 100000"),
        (MINIMAL + '[head]\ntype = "regression"', r"'classification' needs a head of type 'classification' or"),
        (MINIMAL + '[head]\ntype = "decision"', r"a decision head of .* needs a fusion of as many, such as 'decision'"),
        (
            'name = "talks"\ntask = "classification"\nfusion.type = "concat"\nhead.per = "step"\n' + VECTORS,
            r"per 'step' needs a fusion that gives a sequence \(.*\), and 'concat' gives one vector",
        ),
        (MINIMAL.replace("classification", "generation"), r"reads one encoder, that of the text, not image, text"),
        (
            MINIMAL + '[fusion]\ntype = "weighted-sum"\nmode = "fixed"\nweights = { image = 1.0, audio = 2.0 }',
            r"weights name audio, image, but there are image, text",
        ),
        ("name = ", r"is not TOML"),
        (MINIMAL + "[training]\nrate = " + "1" * 5000, r"is not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_that_was_meant(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ExperimentError, match=said) as caught:
        load(tmp_path, text)
    assert "my.toml" in str(caught.value)
    assert "Value error" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "tables"),
    [
        ("classification", "[defaults]\ntop_k = 200\n"),
        ("classification", "[head]\nclasses = 7\n"),
        ("classification", '[fusion]\ntype = "decision"\noutputs = 7\n'),
        ("regression", "[head]\noutputs = 3\n"),
        ("captioning", '[defaults]\nlanguage = "zh"\n'),
        ("captioning", '[head]\nlanguages = ["en", "zh"]\n'),
        ("transcription", '[head]\ngrammar = [["Yes", "no"], ["please"]]\n'),
        ("classification", '[modalities.video]\nfeatures = { type = "vectors", size = 5 }\n'),
        ("classification", '[modalities.video]\nfeatures = "vectors"\nencoder = { type = "vectors-rnn", size = 5 }\n'),
    ],
)
def test_what_depends_on_the_data_is_not_refused_before_they_are_read(tmp_path: Path, task: str, tables: str) -> None:
    load(tmp_path, MINIMAL.replace("classification", task) + tables)


@pytest.mark.parametrize("kind", FITTING)
def test_every_augmentation_runs_on_the_features_it_is_said_to_fit(kind: str) -> None:
    features = FEATURES.config(kind).tiny()
    assert isinstance(features, Features)
    read = features.extract(features.blank(), tiny_tokenizer()).repeat_interleave(3, 0)
    for name in FITTING[kind]:
        changed = AUGMENTATIONS[name](read)
        assert (changed.shape, changed.dtype) == (read.shape, read.dtype)


def test_an_encoder_that_cannot_read_the_features_is_refused(tmp_path: Path) -> None:
    path = make_experiment(tmp_path / "my.toml", "classification", '[modalities.image]\nencoder = "audio-rnn"\n', TEXT)
    with pytest.raises(ExperimentError, match=r"'audio-rnn' encoder reads log-mel, not the 'pixels' of image"):
        load_experiment(path).checkpoint(head={"classes": 2}, vocabulary=9, vectors={}, labels=["a", "b"], defaults={})
