"""Who is let in, and what is said to whom is not."""

import asyncio
import math
from contextlib import ExitStack
from typing import Any

import pytest

from app.engine.admission import Admission, Bounds, Reservation
from app.errors import Unavailable
from app.metrics import Metrics

ROOMY = {"requests": 1000, "nbytes": 10**9, "steps": 10**6, "seconds": 1000.0}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def admission_of(**bounds: Any) -> Admission:
    return Admission(Bounds(**{**ROOMY, **bounds}), Metrics(), Clock())


def pass_time(admission: Admission, seconds: float) -> None:
    admission.clock.now += seconds  # type: ignore[attr-defined]


def learned(admission: Admission, work: float = 0.3, steps: int = 10, seconds: float | None = None) -> Admission:
    """After a request that took this work, and this time if it was not the same."""
    with admission.enter("m") as reservation:
        reservation.received()
        pass_time(admission, work if seconds is None else seconds)
        reservation.decoded(work / 3, steps)
        reservation.computed(work / 3 * 2)
        reservation.answered()
    return admission


def refusal(admission: Admission, *args: Any) -> tuple[str, int]:
    """What is said, and the seconds in Retry-After."""
    with pytest.raises(Unavailable) as caught:
        admission.enter("m", *args)
    return caught.value.detail, int(caught.value.headers["Retry-After"])


def test_places_are_given_back_with_all_that_they_hold() -> None:
    admission = admission_of()
    with admission.enter("m", 500) as reservation:
        assert (len(admission.reservations), admission.nbytes) == (1, 500)
        reservation.decoded(0.1, 30)
        assert (admission.nbytes, admission.steps) == (0, 30)
    with pytest.raises(ZeroDivisionError), admission.enter("m", 500):
        raise ZeroDivisionError
    assert (len(admission.reservations), admission.nbytes, admission.steps) == (0, 0, 0)


def test_bounded_in_requests() -> None:
    admission = admission_of(requests=2)
    admission.enter("m")
    admission.enter("m")
    said, seconds = refusal(admission)
    assert "2 requests" in said
    assert seconds >= 1


def test_bounded_in_bytes_as_announced() -> None:
    admission = admission_of(nbytes=1000)
    admission.enter("m", 700)
    assert "bytes" in refusal(admission, 400)[0]
    admission.enter("m", 300)


def test_bounded_in_bytes_as_they_come() -> None:
    admission = admission_of(nbytes=1000)
    first, second = admission.enter("m"), admission.enter("m")
    first.receive(600)
    second.receive(300)
    with pytest.raises(Unavailable):
        second.receive(200)
    first.decoded(0.1, 5)
    second.receive(200)
    assert admission.nbytes == 700 - 200 + 200


def test_one_alone_may_be_larger_than_the_bound() -> None:
    admission = admission_of(nbytes=1000)
    reservation = admission.enter("m", 5000)
    reservation.receive(6000)
    assert admission.nbytes == 6000


def test_no_room_is_kept_for_a_body_that_does_not_come() -> None:
    admission = admission_of(nbytes=1000)
    silent, slow, steady = (admission.enter("m", 300) for _ in range(3))
    steady.receive(100)
    slow.receive(1)
    assert "bytes" in refusal(admission, 300)[0]
    pass_time(admission, 2)
    other = admission.enter("m", 600)
    assert admission.nbytes == 0 + 1 + 300 + 600
    # What was announced by the two may still come, as far as there is room.
    slow.receive(99)
    with pytest.raises(Unavailable):
        silent.receive(1)
    other.decoded(0.1, 1)
    silent.receive(1)


def test_a_body_that_comes_at_a_good_pace_keeps_its_room() -> None:
    admission = admission_of(nbytes=1000)
    phone = admission.enter("m", 900)
    for _ in range(5):
        pass_time(admission, 4)
        phone.receive(150)
        assert "bytes" in refusal(admission, 200)[0]
    assert admission.nbytes == 900


def test_bounded_in_steps() -> None:
    admission = admission_of(steps=100)
    reservation = admission.enter("m")
    reservation.decoded(0.1, 100)
    assert "100 steps" in refusal(admission)[0]
    reservation.answered()
    admission.enter("m")


def test_bounded_in_waiting_time_and_retry_after_is_the_backlog() -> None:
    admission = learned(admission_of(seconds=2), 0.5)
    for _ in range(5):
        admission.enter("m")
    assert admission.backlog() == pytest.approx(2.5)
    said, seconds = refusal(admission)
    assert "2.5 seconds" in said
    assert seconds == 3


def test_what_cannot_make_it_in_time_is_refused_at_the_door() -> None:
    admission = learned(admission_of(), 0.5)
    admission.enter("m")
    admission.enter("m", 0, 1.5)
    assert "within 1.5 seconds" in refusal(admission, 0, 1.5)[0]
    admission.enter("m", 0, 2.2)


def test_an_empty_house_lets_in_whoever_comes() -> None:
    admission = learned(admission_of(), 50.0)
    with admission.enter("m", 0, 0.1):
        pass
    learned(admission, 0.1)
    assert admission.cost("m").work < 50


def test_a_body_that_does_not_come_is_no_backlog() -> None:
    admission = learned(admission_of(), 1.0)
    slow, quick = admission.enter("m"), admission.enter("m")
    quick.received()
    pass_time(admission, 2)
    assert admission.backlog() == pytest.approx(1.0)
    before = admission.backlog()
    slow.received()
    assert admission.backlog() > 1.9 * before


def test_long_requests_weigh_more_once_their_length_is_known() -> None:
    admission = learned(admission_of(), 1.0, steps=10)
    admission.enter("m").decoded(0.0, 40)
    assert admission.backlog() == pytest.approx(4.0)


def test_a_pictures_one_step_says_nothing_of_a_sounds_many() -> None:
    def answer(steps: int, kind: str, work: float) -> None:
        with admission.enter("m") as reservation:
            reservation.received()
            pass_time(admission, work)
            reservation.decoded(work / 2, steps, kind)
            reservation.computed(work / 2)
            reservation.answered()

    admission = admission_of()
    for _ in range(20):
        answer(1, "image", 0.2)
    admission.enter("m", interleaves=True).decoded(0.0, 50, "image")
    first = admission.enter("m")
    first.decoded(0.0, 50, "audio")
    assert admission.backlog() == pytest.approx(0.2), "as much as a request takes, for nothing else is known"
    answer(50, "audio", 0.1)
    first.decoded(0.0, 500, "audio")
    assert admission.backlog() == pytest.approx(1.0), "ten times as long as that sound"
    first.decoded(0.0, 1, "image")
    assert admission.backlog() == pytest.approx(0.2)


def test_work_that_is_done_is_no_backlog() -> None:
    admission = learned(admission_of(), 1.0, steps=10)
    reservation = admission.enter("m")
    reservation.decoded(0.25, 10)
    assert admission.backlog() == pytest.approx(0.75)
    reservation.computed(2.0)
    assert admission.backlog() == 0


def test_a_machine_that_gets_on_slowly_has_the_longer_backlog() -> None:
    slow, quick = admission_of(), admission_of()
    for _ in range(200):
        learned(slow, 0.1, seconds=0.2)
        learned(quick, 0.1, seconds=0.05)
    for admission in (slow, quick):
        for _ in range(10):
            admission.enter("m")
    assert slow.backlog() == pytest.approx(2.0, rel=0.05)
    assert quick.backlog() == pytest.approx(0.5, rel=0.05)


def test_what_is_given_up_half_way_makes_the_machine_slower() -> None:
    admission = admission_of()
    for _ in range(200):
        learned(admission, 0.1)
        with admission.enter("m") as reservation:
            reservation.received()
            pass_time(admission, 0.1)
            reservation.computed(0.1)
            reservation.is_given_up = True
    admission.enter("m")
    assert admission.backlog() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("beside", [0, 3])
def test_what_is_refused_after_its_body_says_nothing_of_speed(beside: int) -> None:
    admission = admission_of()
    for _ in range(100):
        learned(admission, 0.1)
    before = admission.backlog()
    with ExitStack() as others:
        for _ in range(beside):
            others.enter_context(admission.enter("other")).received()
        for _ in range(200):
            with admission.enter("m") as reservation:
                reservation.received()
                pass_time(admission, 0.01)
        # The others were worked on, too, and are not done: their part of the time stays.
        for reservation in list(admission.reservations):
            reservation.computed(2.0 * beside / (beside + 1) / beside)
            reservation.answered()
    for _ in range(10):
        admission.enter("m")
    assert before == 0
    assert admission.backlog() == pytest.approx(1.0, rel=0.1)


def test_time_without_work_says_nothing_of_speed() -> None:
    admission = admission_of()
    for _ in range(100):
        learned(admission, 0.1)
        with admission.enter("m"):
            pass_time(admission, 10)
    admission.enter("m")
    assert admission.backlog() == pytest.approx(0.1, rel=0.05)


def test_what_requests_take_is_learned_by_model() -> None:
    admission = admission_of()
    for _ in range(100):
        learned(admission, 0.3)
    assert admission.cost("m").work == pytest.approx(0.3)
    assert admission.cost("other").work == 0
    with admission.enter("other"):
        assert admission.backlog() == 0


def test_a_few_huge_requests_say_little_of_those_to_come() -> None:
    admission = learned(admission_of(), 0.1)
    for _ in range(3):
        learned(admission, 60.0, steps=6000)
    assert admission.cost("m").work < 0.2
    assert admission.cost("m").steps < 20
    # If they are what comes from now on, that is learned soon.
    for _ in range(40):
        learned(admission, 60.0, steps=6000)
    assert admission.cost("m").work > 30


def test_nobody_waits_for_all_of_one_that_lets_others_go_first() -> None:
    admission = admission_of(seconds=10.0)
    for _ in range(3):
        # Of such a request no steps are counted, and what one took says little of the next.
        with admission.enter("film", interleaves=True) as reservation:
            reservation.received()
            pass_time(admission, 60)
            reservation.computed(60)
            reservation.answered()
    film = admission.enter("film", interleaves=True)
    film.received()
    assert admission.backlog() == 0
    admission.enter("m")


def test_those_that_let_others_go_first_take_no_more_than_a_quarter_of_the_places() -> None:
    admission = admission_of(requests=8)
    with admission.enter("film", interleaves=True) as reservation:
        reservation.received()
        reservation.computed(30)
        reservation.answered()
    films = [admission.enter("film", interleaves=True) for _ in range(2)]
    with pytest.raises(Unavailable, match="2 requests for film") as refused:
        admission.enter("film", interleaves=True)
    assert refused.value.headers == {"Retry-After": "30"}
    for _ in range(6):
        admission.enter("m")
    assert len(films) == 2


def test_one_request_says_little_of_the_next_also_where_no_steps_are_counted() -> None:
    admission = admission_of()
    for work in (0.1, 60.0):
        with admission.enter("m") as reservation:
            reservation.received()
            reservation.computed(work)
            reservation.answered()
    assert admission.cost("m").work < 0.2


def test_decoding_pauses_while_the_networks_are_behind() -> None:
    async def scenario() -> None:
        admission = admission_of(steps=100)
        reservation: Reservation = admission.enter("m")
        reservation.decoded(0.1, 150)
        assert not admission.has_room()
        task = asyncio.ensure_future(admission.room())
        await asyncio.sleep(0.01)
        assert not task.done()
        reservation.answered()
        await asyncio.wait_for(task, 1)

    asyncio.run(scenario())


def test_refusals_are_counted_by_reason() -> None:
    admission = admission_of(requests=1)
    admission.enter("m")
    refusal(admission)
    assert b'fusionrnn_refused_total{reason="requests"} 1.0' in admission.metrics.text()


def test_a_place_knows_how_long_its_client_still_waits() -> None:
    admission = admission_of()
    reservation = admission.enter("m", 0, 3.0)
    pass_time(admission, 1)
    assert reservation.remaining() == pytest.approx(2.0)
    assert admission.enter("m").remaining() == math.inf
