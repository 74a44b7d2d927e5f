"""A task's clock stands still while a person is asked."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from unified_agents.clock import SkippingClock, use_clock
from unified_agents.deadline import Deadline
from unified_agents.errors import BudgetExceededError
from unified_agents.spec import BudgetSpec
from unified_agents.spending import Spending


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


def test_work_that_is_too_late_is_never_made() -> None:
    """When the run's time is over already nothing begins, and nothing is left that nobody would await."""

    async def work() -> None:
        raise AssertionError

    async def late() -> None:
        spending = Spending(BudgetSpec(seconds=1))
        deadline = Deadline(100, spending)
        spending.begin()
        clock.sleep_blocking(5)
        with pytest.raises(BudgetExceededError):
            await deadline.bound(work)

    with use_clock(SkippingClock()) as clock, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(late())
        gc.collect()
    assert not [str(one.message) for one in told if "never awaited" in str(one.message)]
