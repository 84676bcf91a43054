"""The arithmetic of the bench and its reader of HTTP: a wrong figure is worse than none."""

from __future__ import annotations

import pytest

from tests.bench.figures import Figure, Rounds, compare, number, percentile
from tests.bench.wire import Answer, Answers, Unreadable, request


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(50, 50), (99, 99), (99.5, 100), (100, 100), (1, 1), (0, 1)],
)
def test_a_percentile_is_the_value_of_the_nearest_rank(percent: float, expected: float) -> None:
    """Of 1 to 100 in any order, the p-th percentile is p."""
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_a_single_value_is_every_percentile() -> None:
    """One sample is its own median and its own tail."""
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_no_values_have_no_percentile() -> None:
    """An empty measurement is an error and not a zero."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_the_median_of_the_rounds_is_judged_in_the_direction_of_its_target() -> None:
    """More is better for rates, less for times; without a target nothing is judged."""
    assert Figure("rate", "1/s", (900.0, 1200.0, 1100.0), 1000.0, "more").reached is True
    assert Figure("time", "s", (0.5, 3.0, 2.5), 2.0).reached is False
    assert Figure("memory", "MiB", (1.0,)).reached is None


def test_a_line_shows_spread_and_target() -> None:
    """Whoever reads a figure sees how much it varied and what was wanted."""
    line = Figure("completed", "runs/s", (900.0, 1200.0, 1100.0), 1000.0, "more").line()
    assert [word for word in line.split() if word in {"1,100", "[900", "1,200]", "1,000:", "reached"}] == [
        "1,100",
        "[900",
        "1,200]",
        "1,000:",
        "reached",
    ]


def test_rounds_collect_the_values_of_each_figure() -> None:
    """The same name in two rounds is one figure with two values."""
    rounds = Rounds()
    for value in (1.0, 2.0):
        rounds.add("a", value, "s")
        rounds.add("b", -value, "s")
    assert [(figure.name, figure.values) for figure in rounds.figures()] == [("a", (1.0, 2.0)), ("b", (-1.0, -2.0))]


def test_a_comparison_is_above_one_when_it_is_better_now() -> None:
    """Twice the rate and half the time are both 2.00x; a figure that is new has no ratio."""
    before = {"scenarios": {"s": {"figures": [_figure("rate", 100.0, "more"), _figure("time", 4.0, "less")]}}}
    after = {
        "scenarios": {
            "s": {
                "figures": [_figure("rate", 200.0, "more"), _figure("time", 2.0, "less"), _figure("new", 1.0, "less")]
            }
        }
    }
    assert [line.split()[-1] for line in compare(before, after)] == ["2.00x", "2.00x"]


def _figure(name: str, median: float, better: str) -> dict[str, object]:
    return {"name": name, "median": median, "better": better}


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.012345, "0.0123"), (1.5, "1.50"), (99.94, "99.9"), (1234.5, "1,234")]
)
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    """No exponent, no false precision."""
    assert number(value) == text


HEAD = b"HTTP/1.1 202 Accepted\r\nX-A: b\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("cut", [1, len(HEAD) - 1, len(HEAD), len(HEAD) + 4])
def test_an_answer_may_come_in_pieces(cut: int) -> None:
    """Wherever the bytes are cut, the answer is the same, and comes with the last piece."""
    answers, whole = Answers(), HEAD + b"hello"
    assert answers.feed(whole[:cut]) is None
    assert answers.feed(whole[cut:]) == Answer(202, b"hello")


def test_answers_follow_each_other_on_one_connection() -> None:
    """Nothing of an answer is left for the next one."""
    answers = Answers()
    assert answers.feed(HEAD + b"first") == Answer(202, b"first")
    assert answers.feed(HEAD.replace(b"202", b"503") + b"again") == Answer(503, b"again")


def test_an_answer_without_a_length_is_refused() -> None:
    """A reader that guesses would measure something else."""
    with pytest.raises(Unreadable, match="content-length"):
        Answers().feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_a_request_says_how_long_its_body_is() -> None:
    """What goes over the wire is a whole HTTP/1.1 request."""
    assert request("POST", "h:1", "/p", {"a": 1}).split(b"\r\n") == [
        b"POST /p HTTP/1.1",
        b"Host: h:1",
        b"Content-Type: application/json",
        b"Content-Length: 7",
        b"",
        b'{"a":1}',
    ]
