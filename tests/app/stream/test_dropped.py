"""A session that was dropped leaves nothing behind."""

import gc
import time
import weakref
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from models.streaming.recurrent import RecurrentStreams
from tests.app.stream.conftest import PATH, FarEnd, serving, sessions_of
from tests.models.streaming.sounds import babble


def test_a_dropped_session_frees_its_slot_its_row_and_all_that_it_held() -> None:
    with serving(stream_idle_seconds=2, stream_sessions=2) as client:
        sessions = sessions_of(client)
        with client.websocket_connect(PATH) as socket:
            stays = FarEnd(socket)
            kept = stays.start()["session"]
            with client.websocket_connect(PATH) as dropped:
                far = FarEnd(dropped)
                name = far.start()["session"]
                far.send_sound(babble(1))
                live = sessions.lives[name]
                streams = live.session.streams
                assert isinstance(streams, RecurrentStreams)
                assert streams.sessions == 2
                held: list[weakref.ref[Any]] = [weakref.ref(live), weakref.ref(live.session)]
                del live
            until = time.monotonic() + 20
            while any(each() is not None for each in held) and time.monotonic() < until:
                stays.send_sound(babble(0.02))
                time.sleep(0.1)
                gc.collect()
            assert [each() for each in held] == [None] * 2
            assert list(sessions.lives) == [kept]
            assert streams.sessions == 1
            with client.websocket_connect(PATH) as another:
                assert FarEnd(another).start()["type"] == "session.started"


def test_a_socket_elsewhere_is_refused() -> None:
    with serving() as client, pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/models/stream"):
        pass
