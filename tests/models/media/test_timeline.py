from fractions import Fraction

import av
import numpy as np
import pytest

from models.media.container import Coded
from models.media.timeline import Timeline


def coded(
    pts: list[int], keys: set[int] | None = None, duration: int = 1, unit: Fraction = Fraction(1, 10)
) -> list[Coded]:
    """Packets in the order they are stored; all are key frames unless told otherwise."""
    packets: list[Coded] = []
    for place, tick in enumerate(pts):
        packet: Coded = av.Packet(b"x")
        packet.pts, packet.dts, packet.duration, packet.time_base = tick, place, duration, unit
        packet.is_keyframe = keys is None or place in keys
        packets.append(packet)
    return packets


def stored(*parts: range, shift: int = 2, keys: set[int] | None = None) -> list[Coded]:
    """Packets of parts with clocks of their own, decoded at these ticks and shown ``shift`` later."""
    packets = coded([tick + shift for part in parts for tick in part], keys)
    for packet, tick in zip(packets, (tick for part in parts for tick in part), strict=True):
        packet.dts = tick
    return packets


def even(frames: int) -> Timeline:
    return Timeline(coded(list(range(frames))))


@pytest.mark.parametrize(
    ("frames", "count", "places"),
    [
        (10, 1, [5]),
        (10, 2, [2, 7]),
        (10, 5, [1, 3, 5, 7, 9]),
        (10, 10, list(range(10))),
        (10, 11, list(range(10))),
        (3, 100, [0, 1, 2]),
        (1, 4, [0]),
    ],
)
def test_the_middles_of_equal_spans_are_chosen(frames: int, count: int, places: list[int]) -> None:
    assert even(frames).choose(count).tolist() == places


def test_spans_are_of_time_not_of_frames() -> None:
    uneven = Timeline(coded([0, 1, 2, 3, 4, 50, 51, 99]))
    assert uneven.duration == pytest.approx(10)
    assert uneven.choose(2).tolist() == [4, 6]  # on display at 2.5 s and at 7.5 s


def test_a_long_still_does_not_cost_frames() -> None:
    still = Timeline(coded([0, 1, 2, 3, 99]))
    assert still.choose(4).tolist() == [1, 2, 3, 4]
    assert still.choose(5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", range(1, 40))
def test_choices_are_distinct_ascending_and_as_many_as_there_can_be(count: int) -> None:
    random = np.random.default_rng(count)
    ticks = random.choice(1000, 30, replace=False)
    timeline = Timeline(coded(ticks.tolist()))
    times = timeline.times[timeline.choose(count)]
    assert len(times) == min(count, 30)
    assert (np.diff(times) > 0).all()


def test_times_start_at_the_first_frame_shown() -> None:
    timeline = Timeline(coded([500, 502, 501]))
    assert timeline.times.tolist() == pytest.approx([0, 0.2, 0.1])
    assert timeline.duration == pytest.approx(0.3)


def test_a_start_that_cannot_be_shown_counts_in_time_and_not_in_choices() -> None:
    timeline = Timeline(coded([500, 501, 502, 503]), start=490)
    assert timeline.times.tolist() == pytest.approx([1, 1.1, 1.2, 1.3])
    assert timeline.duration == pytest.approx(1.4)
    assert timeline.choose(2).tolist() == [1, 3]
    assert Timeline(coded([500]), start=510).times.tolist() == [0]


def test_frames_without_a_duration_last_as_long_as_the_others() -> None:
    assert Timeline(coded([0, 2, 4, 6], duration=0)).duration == pytest.approx(0.8)


def test_only_what_leads_to_the_chosen_frames_is_decoded() -> None:
    timeline = Timeline(coded(list(range(30)), keys={0, 10, 20}))
    assert list(timeline.runs(np.array([12, 25]))) == [range(10, 13), range(20, 26)]
    assert list(timeline.runs(np.array([9, 10]))) == [range(11)]


def test_a_frame_shown_before_its_key_frame_needs_the_one_before() -> None:
    # Key frames are stored at places 0 and 3; the frames stored at 4 and 5 are shown before the latter.
    timeline = Timeline(coded([0, 1, 2, 5, 3, 4, 6], keys={0, 3}))
    assert list(timeline.runs(np.array([4]))) == [range(5)]
    assert list(timeline.runs(np.array([6]))) == [range(3, 7)]


def test_without_presentation_times_frames_are_shown_in_the_order_stored() -> None:
    timeline = Timeline(coded([7, 3, 5, 1]), in_order=True)
    assert timeline.times.tolist() == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("second", [range(3), range(100, 103), range(17, 20), range(500, 503), range(2**33, 2**33 + 3)])
def test_a_clock_that_starts_anew_goes_on(second: range) -> None:
    timeline = Timeline(stored(range(100, 120), second), start=102, restarting=True)
    assert timeline.times.tolist() == pytest.approx(np.arange(23) / 10)
    assert timeline.duration == pytest.approx(2.3)
    assert timeline.shown_at(np.array([1.95, 2.05])).tolist() == [19, 20]


def test_every_part_goes_on_from_the_one_before() -> None:
    timeline = Timeline(stored(range(5), range(5), range(900, 905), range(2)), restarting=True)
    assert timeline.times.tolist() == pytest.approx(np.arange(17) / 10)


@pytest.mark.parametrize("restarting", [False, True])
def test_a_gap_in_a_clock_that_goes_on_is_time(restarting: bool) -> None:
    timeline = Timeline(stored(range(5), range(80, 85)), restarting=restarting)
    assert timeline.duration == pytest.approx(8.5)


def test_a_clock_starts_anew_only_where_the_format_lets_it() -> None:
    assert Timeline(stored(range(5), range(900, 905))).duration == pytest.approx(90.5)


def test_parts_follow_each_other_whatever_their_coders_reorder() -> None:
    packets = [*stored(range(5), shift=4), *stored(range(5), shift=0), *stored(range(5), shift=2)]
    timeline = Timeline(packets, restarting=True)
    assert timeline.times.tolist() == pytest.approx(np.arange(15) / 10)


def test_frames_that_refer_to_what_was_cut_off_are_not_shown() -> None:
    # The second part begins amid a group of pictures, and its key frame is followed by one that is shown before it.
    packets = [*coded([0, 1, 2, 3]), *coded([0, 1, 3, 2, 4], keys={2})]
    timeline = Timeline(packets, restarting=True)
    assert timeline.duration == pytest.approx(0.9)
    assert timeline.choose(9).tolist() == [0, 1, 2, 3, 6, 8]


def test_a_frame_with_a_time_of_the_next_clock_is_the_last_of_its_own() -> None:
    packets = stored(range(5), range(900, 905))
    packets[3].pts = 900
    timeline = Timeline(packets, restarting=True)
    assert timeline.times.tolist() == pytest.approx([0, 0.1, 0.2, 0.5, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0])


def test_a_long_delay_is_believed_where_no_clock_starts_anew() -> None:
    timeline = Timeline(stored(range(5), shift=200), restarting=True)
    assert timeline.times.tolist() == pytest.approx(np.arange(5) / 10)
    packets = stored(range(5), shift=0)
    packets[4].pts = 150
    assert Timeline(packets, restarting=True).times.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 15])


def test_packets_without_decoding_times_start_no_clock() -> None:
    packets = stored(range(5), range(5))
    packets[5].dts = None
    assert Timeline(packets, restarting=True).times.tolist() == Timeline(packets).times.tolist()
