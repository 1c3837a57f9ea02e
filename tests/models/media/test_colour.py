"""Pictures of other colours than sRGB's. ICC profiles are made here, tag by tag."""

import io
import struct
import time
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from models.media import MediaLimits, decode_image
from tests.models.media.make import encoded, quadrants
from tests.models.media.test_video_hdr import HLG, PQ, TO_BT2020, light, signal

LIMITS = MediaLimits()
WHITE = (0.9642, 1.0, 0.8249)
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
"""XYZ of red, green and blue at full, adapted to D50."""


def xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2."""
    tags = {b"wtpt": xyz(WHITE), **tags}
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s12s4s", at + len(body), bytes(4), 0x02400000, kind, space, pcs, bytes(12), b"acsp")
    return head + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48) + table + body


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def rgb(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma))
    return profile(b"RGB ", dict(zip(names, map(xyz, primaries), strict=True)) | curves)


def gray(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": curve(gamma)})


def inks() -> bytes:
    """A press on whose paper cyan, magenta and yellow show nothing, and only black does."""
    grid = np.array([[100 if corner & 1 == 0 else 0, 128, 128] for corner in range(16)], np.float64)
    lab = np.stack([grid[:, 0] * 2.55, grid[:, 1], grid[:, 2]], axis=1).round().astype(np.uint8).tobytes()
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    straight = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + 4 * straight + lab + 3 * straight
    return profile(b"CMYK", {b"A2B0": table, b"A2B1": table}, b"prtr", b"Lab ")


def expected(pixels: NDArray[np.uint8], primaries: tuple[tuple[float, float, float], ...], gamma: float) -> Any:
    """What the pixels are in sRGB, by its definition."""
    light = (pixels / 255) ** gamma @ np.array(primaries) @ np.linalg.inv(np.array(SRGB))
    light = light.clip(0, 1)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return 255 * coded


LEVELS = np.linspace(60, 200, 8).round().astype(np.uint8)
SOFT = np.stack([*np.meshgrid(LEVELS, LEVELS, indexing="ij"), np.full((8, 8), 130, np.uint8)], axis=-1)
SOFT = SOFT.repeat(4, 0).repeat(4, 1)
"""Tiles of colours that every space has."""


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WebP", "JPEG", "AVIF", "HEIC"])
@pytest.mark.parametrize(
    ("primaries", "gamma"), [(ADOBE, 2.2), (PROPHOTO, 1.8), (DISPLAY_P3, 2.2)], ids=["Adobe", "ProPhoto", "P3"]
)
def test_colours_become_srgbs(kind: str, primaries: tuple[tuple[float, float, float], ...], gamma: float) -> None:
    coding: dict[str, dict[str, Any]] = {"WebP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    picture = Image.fromarray(SOFT)
    picture.info["icc_profile"] = rgb(primaries, gamma)
    file = encoded(picture, kind, icc_profile=rgb(primaries, gamma), **coding.get(kind, {}))
    wrong = np.abs(decode_image(file, LIMITS) - expected(SOFT, primaries, gamma))
    # Lossy coders blur the tiles' borders.
    assert (np.median(wrong) if kind in ("AVIF", "HEIC") else wrong.max()) < (5 if kind in ("JPEG", "HEIC") else 2.5)


def test_a_gray_pictures_profile_is_applied() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    alpha = Image.fromarray(ramp).convert("LA")
    for picture in (Image.fromarray(ramp), alpha):
        pixels = decode_image(encoded(picture, "PNG", icc_profile=gray(1.8)), LIMITS)
        light = (ramp / 255) ** 1.8
        wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        assert np.abs(pixels - wanted[..., None]).max() < 2


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_what_their_press_makes_of_them(kind: str) -> None:
    stored = np.zeros((32, 32, 4), np.uint8)
    stored[:, :16, :3] = 255  # on this press nothing
    stored[16:, :, 3] = 255
    picture = Image.fromarray(stored, "CMYK")
    pixels = decode_image(encoded(picture, kind, icc_profile=inks()), LIMITS)
    assert pixels[4:12].min() > 250
    assert pixels[20:28].max() < 5
    assert decode_image(encoded(picture, kind), LIMITS)[4:12, 4:12].max() < 5


@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("target", [None, 16])
def test_a_profile_changes_neither_turn_nor_ground_nor_size(orientation: int, target: int | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    clear = np.concatenate([quadrants(), np.full((48, 64, 1), 255, np.uint8)], axis=2)
    clear[:8, :8, 3] = 0
    for picture in (Image.fromarray(clear), Image.fromarray(quadrants()).convert("P")):
        plain = decode_image(encoded(picture, "PNG", exif=exif), LIMITS, target=target)
        tagged = encoded(picture, "PNG", exif=exif, icc_profile=rgb(ADOBE, 2.2))
        pixels = decode_image(tagged, LIMITS, target=target)
        assert pixels.shape == plain.shape
        assert np.abs(pixels - expected(plain, ADOBE, 2.2)).max() < 2.5


ABSURD = {
    "none": b"",
    "noise": np.random.default_rng(0).bytes(500),
    "cut off": rgb(ADOBE, 2.2)[:200],
    "huge": rgb(ADOBE, 2.2) + bytes(5 << 20),
    "of inks": inks(),
    "of gray": gray(1.0),
    "black": rgb(((0.0, 0.0, 0.0),) * 3, 2.2),
    "negative": rgb((ADOBE[0], (-0.5, -0.5, -0.5), ADOBE[2]), 2.2),
    "a link": profile(b"RGB ", {}, b"link", b"RGB "),
}


@pytest.mark.parametrize("name", ABSURD)
def test_a_profile_that_makes_no_sense_is_none(name: str) -> None:
    file = encoded(SOFT, "TIFF", icc_profile=ABSURD[name])
    assert np.array_equal(decode_image(file, LIMITS), SOFT)


def test_srgb_by_any_name_leaves_the_pixels_as_they_are() -> None:
    everything = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    built = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode_image(encoded(everything, "PNG", icc_profile=built), LIMITS), everything)


def test_a_new_profile_for_each_picture_costs_little() -> None:
    start = time.perf_counter()
    for gamma in np.linspace(1.2, 2.6, 20):
        decode_image(encoded(SOFT, "PNG", icc_profile=rgb(ADOBE, float(gamma))), LIMITS)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_photo_of_high_dynamic_range_looks_like_another(transfer: int) -> None:
    deep = np.rint(65535 * signal(light(SOFT) @ TO_BT2020.T, transfer)).astype(np.uint16)
    for stated in (transfer, 1):
        file = io.BytesIO()
        photo = pillow_heif.from_bytes("RGB;16", (SOFT.shape[1], SOFT.shape[0]), deep.tobytes())
        options = {"color_primaries": 9, "transfer_characteristics": int(stated), "matrix_coefficients": 9}
        photo.save(file, quality=-1, chroma=444, full_range_flag=1, **options)
        wrong = np.abs(decode_image(file.getvalue(), LIMITS).astype(int) - SOFT)
        # Eight bits of PQ are coarse.
        assert (np.median(wrong) < 2 and wrong.max() < 12) == (stated == transfer)
