"""What the reports of a stream are counted as."""

from benchmarks.stream.detection import Report, Spoken, Told, told

SPOKEN = [Spoken(1.0, 2.0, "yes"), Spoken(3.0, 4.0, "unknown")]


def test_reports_count_for_the_recording_that_they_overlap() -> None:
    late = Report(2.7, 2.1, 2.2, "yes")
    found = told(SPOKEN, [late, Report(2.9, 2.5, 2.6, "no"), Report(3.6, 3.1, 3.5, "go")])
    assert found == Told({0: late.now - late.end}, wrong=1, alarms=1)


def test_a_word_heard_twice_or_as_another_is_wrong() -> None:
    again = [Report(1.7, 1.2, 1.6, "yes"), Report(2.0, 1.7, 1.9, "yes"), Report(2.1, 1.9, 2.2, "no")]
    found = told(SPOKEN, again)
    assert (list(found.heard), found.wrong, found.alarms) == ([0], 2, 0)
