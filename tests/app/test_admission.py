"""Who is let in, and what is said to whom is not."""

import asyncio
import math
from typing import Any

import pytest

from app.engine.admission import Admission, Bounds, Place
from app.errors import Unavailable
from app.metrics import Metrics

ROOMY = {"requests": 1000, "nbytes": 10**9, "steps": 10**6, "seconds": 1000.0}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def house(workers: int = 1, **bounds: Any) -> Admission:
    return Admission(Bounds(**{**ROOMY, **bounds}), workers, Metrics(), Clock())


def learned(admission: Admission, media: float = 0.1, device: float = 0.2, steps: int = 10) -> Admission:
    """After a request that took this."""
    with admission.enter("m") as place:
        place.received()
        place.decoded(steps)
        place.answered(media, device)
    return admission


def refusal(admission: Admission, *args: Any) -> tuple[str, int]:
    """What is said, and the seconds in Retry-After."""
    with pytest.raises(Unavailable) as caught:
        admission.enter("m", *args)
    return caught.value.detail, int(caught.value.headers["Retry-After"])


def test_places_are_given_back_with_all_that_they_hold() -> None:
    admission = house()
    with admission.enter("m", 500) as place:
        assert (len(admission.places), admission.nbytes) == (1, 500)
        place.decoded(30)
        assert (admission.nbytes, admission.steps) == (0, 30)
    with pytest.raises(ZeroDivisionError), admission.enter("m", 500):
        raise ZeroDivisionError
    assert (len(admission.places), admission.nbytes, admission.steps) == (0, 0, 0)


def test_bounded_in_requests() -> None:
    admission = house(requests=2)
    admission.enter("m")
    admission.enter("m")
    said, seconds = refusal(admission)
    assert "2 requests" in said
    assert seconds >= 1


def test_bounded_in_bytes_as_announced() -> None:
    admission = house(nbytes=1000)
    admission.enter("m", 700)
    assert "bytes" in refusal(admission, 400)[0]
    admission.enter("m", 300)


def test_bounded_in_bytes_as_they_come() -> None:
    admission = house(nbytes=1000)
    first, second = admission.enter("m"), admission.enter("m")
    first.receive(600)
    second.receive(300)
    with pytest.raises(Unavailable):
        second.receive(200)
    first.decoded(5)
    second.receive(200)
    assert admission.nbytes == 700 - 200 + 200


def test_one_alone_may_be_larger_than_the_bound() -> None:
    admission = house(nbytes=1000)
    place = admission.enter("m", 5000)
    place.receive(6000)
    assert admission.nbytes == 6000


def test_bounded_in_steps() -> None:
    admission = house(steps=100)
    place = admission.enter("m")
    place.decoded(100)
    assert "100 steps" in refusal(admission)[0]
    place.answered(0.1, 0.1)
    admission.enter("m")


def test_bounded_in_waiting_time_and_retry_after_is_the_backlog() -> None:
    admission = learned(house(seconds=2), device=0.5)
    for _ in range(5):
        admission.enter("m")
    assert admission.backlog() == pytest.approx(2.5)
    said, seconds = refusal(admission)
    assert "2.5 seconds" in said
    assert seconds == 3


def test_media_threads_work_side_by_side() -> None:
    admission = learned(house(workers=4), media=1.0, device=0.1)
    for _ in range(8):
        admission.enter("m")
    assert admission.backlog() == pytest.approx(2.0)


def test_what_cannot_make_it_in_time_is_refused_at_the_door() -> None:
    admission = learned(house(), media=0.1, device=0.5)
    admission.enter("m")
    admission.enter("m", 0, 1.2)
    assert "within 1.2 seconds" in refusal(admission, 0, 1.2)[0]
    admission.enter("m", 0, 1.7)


def test_an_empty_house_lets_in_whoever_comes() -> None:
    admission = learned(house(), device=50.0)
    with admission.enter("m", 0, 0.1):
        pass
    learned(admission, device=0.1)
    assert admission.cost("m").device < 50


def test_a_body_that_does_not_come_is_no_backlog() -> None:
    admission = learned(house(), device=1.0)
    slow, quick = admission.enter("m"), admission.enter("m")
    quick.received()
    admission.clock.now += 2  # type: ignore[attr-defined]
    assert admission.backlog() == pytest.approx(1.0)
    slow.received()
    assert admission.backlog() == pytest.approx(2.0)


def test_long_requests_weigh_more_once_their_length_is_known() -> None:
    admission = learned(house(), device=1.0, steps=10)
    admission.enter("m").decoded(40)
    assert admission.backlog() == pytest.approx(4.0)


def test_what_requests_take_is_learned_by_model() -> None:
    admission = house()
    for _ in range(100):
        learned(admission, device=0.3)
    assert admission.cost("m").device == pytest.approx(0.3)
    assert admission.cost("other").device == 0
    with admission.enter("other"):
        assert admission.backlog() == 0


def test_decoding_pauses_while_the_networks_are_behind() -> None:
    async def scenario() -> None:
        admission = house(steps=100)
        place: Place = admission.enter("m")
        place.decoded(150)
        task = asyncio.ensure_future(admission.room())
        await asyncio.sleep(0.01)
        assert not task.done()
        place.answered(0.1, 0.1)
        await asyncio.wait_for(task, 1)

    asyncio.run(scenario())


def test_refusals_are_counted_by_reason() -> None:
    admission = house(requests=1)
    admission.enter("m")
    refusal(admission)
    assert b'fusionrnn_refused_total{reason="requests"} 1.0' in admission.metrics.text()


def test_a_place_knows_how_long_its_client_still_waits() -> None:
    admission = house()
    place = admission.enter("m", 0, 3.0)
    admission.clock.now += 1  # type: ignore[attr-defined]
    assert place.remaining() == pytest.approx(2.0)
    assert admission.enter("m").remaining() == math.inf
