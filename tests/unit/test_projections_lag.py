"""How far tables are behind the log, told from looks at its ends."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from projections.lag import LOOKS_MAX, Lag, LagWatch, look_up_age
from schemas.settings import Settings
from tests.fake_log import FakeTopics
from tests.histories import Log

E = ("e", 0)


def watch(end: int, at: int) -> LagWatch:
    """One that has seen the log end at `end` when the clock said 0."""
    made = LagWatch()
    made.ends({E: end}, 0.0)
    made.tables({E: at})
    return made


def test_level_tables_have_no_lag() -> None:
    """Also tables that went past the end that was seen last."""
    one = watch(7, 7)
    assert one.lags(100.0) == {E: Lag(0, 0.0)}
    one.tables({E: 9})
    assert one.lags(100.0) == {E: Lag(0, 0.0)}


def test_the_age_is_that_of_the_first_record_that_is_missing() -> None:
    """Not of the newest one; it grows while the tables stand, and falls when they move."""
    one = watch(10, 10)
    one.ends({E: 12}, 5.0)
    one.ends({E: 20}, 8.0)
    assert one.lags(9.0) == {E: Lag(10, 4.0)}
    one.tables({E: 11})
    assert one.lags(9.0) == {E: Lag(9, 4.0)}
    one.tables({E: 12})
    assert one.lags(9.0) == {E: Lag(8, 1.0)}


def test_what_stood_there_at_the_first_look_is_as_old_as_it_says() -> None:
    """Until it was asked it counts from the first look; it is asked again when the tables have moved."""
    one = watch(10, 4)
    assert one.lags(2.0) == {E: Lag(6, 2.0)}
    assert one.undated() == (E, 4)
    one.date(E, 4, -3_600.0)
    assert one.undated() is None
    assert one.lags(2.0) == {E: Lag(6, 3_602.0)}
    one.tables({E: 8})
    assert one.undated() == (E, 8)
    one.ends({E: 11}, 3.0)
    one.tables({E: 10})
    assert one.undated() is None
    assert one.lags(4.0) == {E: Lag(1, 1.0)}


def test_a_partition_is_asked_about_after_the_others() -> None:
    """One that moves all the time does not keep the others from being asked about."""
    one = LagWatch()
    one.ends({("e", 0): 9, ("e", 1): 9}, 0.0)
    one.tables({("e", 0): 1, ("e", 1): 1})
    one.date(("e", 0), 1, -5.0)
    one.tables({("e", 0): 2})
    assert one.undated() == (("e", 1), 1)


def test_older_tables_are_behind_at_once() -> None:
    """Somebody has restored them: what they lack was in the log before, so its own time is asked for."""
    one = watch(10, 10)
    one.tables({E: 3})
    assert one.undated() == (E, 3)
    assert one.lags(1.0)[E].records == 7


def test_a_log_that_became_shorter_is_another_one() -> None:
    """Ages of the old one say nothing of it."""
    one = watch(10, 2)
    one.date(E, 2, -99.0)
    one.ends({E: 5}, 50.0)
    assert one.lags(51.0) == {E: Lag(3, 1.0)}


def test_what_is_not_known_is_not_told() -> None:
    """A partition whose tables were not asked for, and one that somebody else looks after now."""
    one = watch(10, 2)
    one.ends({("e", 1): 4}, 0.0)
    assert set(one.lags(1.0)) == {E}
    one.keep({1: None})
    assert one.lags(1.0) == {}


@given(
    st.lists(
        st.tuples(st.floats(0.01, 5.0), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=4 * LOOKS_MAX
    )
)
def test_the_age_is_never_too_high(turns: list[tuple[float, int, int]]) -> None:
    """Whatever comes, and however long nothing is folded: short by at most the pauses between the looks that are remembered."""
    one, now_s, end, at = watch(0, 0), 0.0, 0, 0
    appended: list[float] = []
    looks = [0.0]
    for pause_s, come, folded in turns:
        appended += [now_s] * come
        now_s += pause_s
        end += come
        at = min(end, at + folded // 2)
        one.ends({E: end}, now_s)
        one.tables({E: at})
        looks.append(now_s)
        lag = one.lags(now_s)[E]
        true_s = now_s - appended[at] if at < end else 0.0
        longest_s = max(after - before for before, after in pairwise(looks))
        spread = max(1.0, 2 * len(turns) / LOOKS_MAX)
        assert lag.records == end - at
        assert lag.seconds <= true_s + 1e-6
        assert lag.seconds >= true_s - 2 * spread * longest_s - 1e-6
        assert len(one._looks[E]) <= LOOKS_MAX


async def test_the_log_is_asked_for_the_age() -> None:
    """By one record, and only where it is needed; a log that does not answer is asked again the next time."""
    log = Log(1)
    for number in range(5):
        log.append(0, b"%d" % number)
    settings = Settings(workflow_partitions=1)
    topics = FakeTopics(settings, log)
    log.records[0][2] = replace(log.records[0][2], timestamp=round((time.time() - 600) * 1000))
    one = LagWatch()
    one.ends({E: 5}, time.monotonic())
    one.tables({E: 2})
    topics.away = True
    await look_up_age(one, topics, settings.topics.events)
    assert one.lags(time.monotonic())[E].seconds < 60
    topics.away = False
    await look_up_age(one, topics, settings.topics.events)
    assert 599 < one.lags(time.monotonic())[E].seconds < 660
