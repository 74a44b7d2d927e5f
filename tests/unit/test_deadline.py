"""A task's clock stands still while a person is asked."""

from __future__ import annotations

import pytest

from unified_agents.clock import SkippingClock, use_clock
from unified_agents.deadline import Deadline


def test_time_stands_still_while_a_person_is_asked() -> None:
    """What is left stays what it was, whole, so that calls beside the question keep their retries; afterwards it goes on."""
    with use_clock(SkippingClock()) as clock:
        deadline = Deadline(100)
        clock.sleep_blocking(10)
        with deadline.paused():
            clock.sleep_blocking(50)
            assert deadline.left() == pytest.approx(90, abs=0.5)
        assert deadline.left() == pytest.approx(90, abs=0.5)
        clock.sleep_blocking(5)
        assert deadline.left() == pytest.approx(85, abs=0.5)


def test_questions_at_the_same_time_count_once() -> None:
    """Three overlapping questions of twenty seconds pause the clock for twenty-two, not sixty."""
    with use_clock(SkippingClock()) as clock:
        deadline = Deadline(100)
        questions = [deadline.paused() for _ in range(3)]
        for question in questions:
            question.__enter__()
            clock.sleep_blocking(1)
        clock.sleep_blocking(19)
        for question in questions:
            question.__exit__(None, None, None)
        assert deadline.left() == pytest.approx(100, abs=0.5)
        clock.sleep_blocking(7)
        assert deadline.left() == pytest.approx(93, abs=0.5)
