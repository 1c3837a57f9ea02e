import pickle

import pytest

from models.media import MediaError, MediaTooLarge, UndecodableMedia
from models.media.errors import shielded


def test_an_error_reads_as_what_is_wrong_and_what_to_do() -> None:
    error = MediaTooLarge("image", "The image has 9 bytes.", "Send fewer.", "8 bytes")
    assert str(error) == "The image has 9 bytes. Send fewer."
    assert (error.modality, error.limit) == ("image", "8 bytes")


def test_an_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(MediaTooLarge("image", "Too big.", "Shrink it.", "8 bytes")))
    assert isinstance(error, MediaTooLarge)
    assert (error.detail, error.remedy, error.limit) == ("Too big.", "Shrink it.", "8 bytes")


@pytest.mark.parametrize("cause", [OSError("broken"), KeyError(7), MemoryError(), SyntaxError("bad header")])
def test_whatever_a_decoder_raises_is_the_mediums_fault(cause: Exception) -> None:
    with pytest.raises(UndecodableMedia) as caught, shielded("audio", "FLAC"):
        raise cause
    assert caught.value.modality == "audio"
    assert "FLAC" in caught.value.detail
    assert caught.value.__cause__ is cause


def test_an_error_that_says_what_is_wrong_passes_unchanged() -> None:
    error = MediaTooLarge("audio", "Too big.", "Shrink it.")
    with pytest.raises(MediaError) as caught, shielded("audio", "FLAC"):
        raise error
    assert caught.value is error
