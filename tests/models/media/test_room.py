"""Large pictures are decoded one after the other."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np
import pytest

from models.media import MediaLimits, decode_image
from models.media.cancellation import Cancelled, while_wanted
from models.media.room import ROOM, PixelRoom
from models.streaming.pictures import decoded
from tests.models.media.make import encoded


def test_what_does_not_fit_beside_others_waits() -> None:
    room, most, now, lock = PixelRoom(100), 0, 0, threading.Lock()

    def decode(pixels: int) -> None:
        nonlocal most, now
        with room.hold(pixels):
            with lock:
                now += pixels
                most = max(most, now)
            time.sleep(0.01)
            with lock:
                now -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [60, 30, 50, 10, 70, 20, 90, 40] * 3))
    assert 60 < most <= 100
    assert now == 0


def test_a_picture_beyond_all_room_comes_alone() -> None:
    room = PixelRoom(100)
    with room.hold(500):
        pass
    with pytest.raises(ZeroDivisionError), room.hold(500):
        raise ZeroDivisionError
    with room.hold(100):
        pass


def test_small_pictures_do_not_go_past_a_large_one() -> None:
    room, order = PixelRoom(100), list[int]()

    def decode(pixels: int) -> None:
        with room.hold(pixels):
            order.append(pixels)

    with ThreadPoolExecutor(2) as pool, room.hold(60):
        pool.submit(decode, 90)
        while not room.waiting:
            time.sleep(0.001)
        pool.submit(decode, 30)
        time.sleep(0.3)
        assert not order
    assert order == [90, 30]


def test_whoever_is_not_wanted_any_more_does_not_wait() -> None:
    room = PixelRoom(100)
    with room.hold(100), pytest.raises(Cancelled), while_wanted(lambda: False), room.hold(1):
        pass
    with room.hold(100):
        pass


def test_pictures_take_their_place_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[PixelRoom, int]] = []
    real = PixelRoom.hold

    def hold(self: PixelRoom, pixels: int) -> AbstractContextManager[None]:
        held.append((self, pixels))
        return real(self, pixels)

    monkeypatch.setattr(PixelRoom, "hold", hold)
    file = encoded(np.zeros((40, 60, 3), np.uint8), "JPEG")
    decode_image(file, MediaLimits())
    decode_image(file, MediaLimits(), target=10)
    assert held == [(ROOM, 2400), (ROOM, 150)]


def test_a_streams_picture_does_not_wait_behind_files() -> None:
    file = encoded(np.zeros((40, 60, 3), np.uint8), "JPEG")
    with ThreadPoolExecutor(1) as pool, ROOM.hold(ROOM.pixels):
        picture, warning = pool.submit(decoded, file, 10).result(10)
    assert picture is not None
    assert warning is None
