"""Names of parts, which no other class takes unnoticed."""

import pytest

from models.features.features import FEATURES, Features
from models.media.limits import MediaLimits
from models.registry import ENCODERS, ComponentConfig, EncoderConfig, Registry


class Config(EncoderConfig):
    """Of nothing."""


def named(module: str) -> type:
    return type("Part", (), {"__module__": module, "__qualname__": "Part"})


def test_a_name_is_taken_by_the_same_class_again_and_by_no_other_of_its_name() -> None:
    parts: Registry[object, ComponentConfig] = Registry("part", ComponentConfig)
    parts.register("mine", Config)(named("one"))
    again = named("one")
    parts.register("mine", Config)(again)
    assert parts.part("mine") is again
    with pytest.raises(ValueError, match=r"part type 'mine' of other\.Part is already registered by one\.Part"):
        parts.register("mine", Config)(named("other"))
    assert parts.part("mine") is again


def test_a_shipped_part_is_not_replaced_by_a_plugin_of_its_class_name() -> None:
    known = ENCODERS.part("text-rnn")
    stranger = type(known.__name__, (), {"__module__": "plugin", "__qualname__": known.__qualname__})
    with pytest.raises(ValueError, match="already registered"):
        ENCODERS.register("text-rnn", Config)(stranger)
    assert ENCODERS.part("text-rnn") is known


def test_a_part_is_described_as_its_kind_is() -> None:
    class Bare(ComponentConfig):
        """Not an encoder's."""

    with pytest.raises(TypeError, match=r"encoder type .bare.: .*Bare must derive from EncoderConfig"):
        ENCODERS.register("bare", Bare)  # type: ignore[arg-type]
    assert "bare" not in ENCODERS.names()


@pytest.mark.parametrize("part", ["image", "text", "audio", "video"])
def test_features_of_any_modality_know_how_many_bytes_it_may_have(part: str) -> None:
    limits = MediaLimits()
    wanted = {"text": 4 * limits.text_characters, "audio": limits.audio_bytes}
    # As a plugin's features have it, which say nothing about it.
    found = Features.most_bytes(FEATURES.parse({"type": "tokens"}), part, limits)  # type: ignore[arg-type]
    assert found == wanted.get(part, found) > 0
