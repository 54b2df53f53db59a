"""Which failed attempts are repeated, and after how long."""

import pytest

from orka.engine.retry import delay_after, failure_of, names_of, wants_retry
from orka.errors import AgentError, RunTimeout
from orka.graph.nodes import Retry
from orka.results import Failure


def test_attempts_are_counted_with_the_first_one() -> None:
    assert [wants_retry(Retry(attempts=3), attempt, ValueError()) for attempt in (1, 2, 3, 4)] == [
        True,
        True,
        False,
        False,
    ]
    assert not wants_retry(Retry(), 1, ValueError())


@pytest.mark.parametrize(
    ("on", "error", "repeated"),
    [
        ((), ValueError("x"), True),
        (("ValueError",), ValueError("x"), True),
        (("Exception",), ValueError("x"), True),
        (("KeyError",), ValueError("x"), False),
        (("LookupError",), KeyError("x"), True),
        (("KeyError", "OSError"), ConnectionError("x"), True),
        (("RateLimited",), AgentError("x", kind="RateLimited"), True),
        (("AgentError",), AgentError("x", kind="RateLimited"), True),
        (("RunTimeout",), RunTimeout("x"), True),
        (("TimeoutError",), RunTimeout("x"), True),
        (("timeout",), RunTimeout("x"), True),
        (("TimeoutError",), TimeoutError(), True),
        (("TimeoutError",), ValueError("x"), False),
        (("ValueError",), ExceptionGroup("g", [ExceptionGroup("h", [ValueError("x")])]), True),
        (("ValueError",), ExceptionGroup("g", [ValueError("x"), KeyError("y")]), False),
        (("object",), ValueError("x"), False),
    ],
)
def test_on_names_classes_their_bases_and_kinds(on: tuple[str, ...], error: Exception, repeated: bool) -> None:
    assert wants_retry(Retry(attempts=2, on=on), 1, error) is repeated


def test_delays_grow_by_the_factor_up_to_the_maximum() -> None:
    retry = Retry(attempts=9, delay=1, factor=3, max_delay=20, jitter=0)
    assert [delay_after(retry, attempt, 0.7) for attempt in (1, 2, 3, 4, 5)] == [1, 3, 9, 20, 20]


def test_jitter_moves_a_delay_both_ways_and_never_below_zero() -> None:
    retry = Retry(attempts=2, delay=10, jitter=0.2)
    assert [delay_after(retry, 1, draw) for draw in (0.0, 0.5, 1.0)] == [8.0, 10.0, 12.0]
    assert delay_after(Retry(attempts=2, delay=10, jitter=1), 1, 0.0) == 0.0
    assert delay_after(Retry(attempts=2, delay=0), 1, 1.0) == 0.0


def test_many_attempts_do_not_overflow_their_delay() -> None:
    assert delay_after(Retry(attempts=1000, factor=2, jitter=0), 999, 0.5) == 60.0
    assert delay_after(Retry(attempts=1000, factor=3, jitter=0), 999, 0.5) == 60.0
    assert delay_after(Retry(attempts=1000, delay=0, factor=3, jitter=0), 999, 0.5) == 0.0


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError("bad"), Failure(kind="ValueError", message="bad")),
        (TimeoutError(), Failure(kind="TimeoutError", message="TimeoutError")),
        (AgentError("down", kind="Overloaded"), Failure(kind="Overloaded", message="down")),
        (AgentError("", kind="Overloaded"), Failure(kind="Overloaded", message="Overloaded")),
        (ExceptionGroup("unhandled", [ValueError("bad")]), Failure(kind="ValueError", message="bad")),
        (
            ExceptionGroup("both", [ValueError("a"), KeyError("b")]),
            Failure(kind="ExceptionGroup", message="both (2 sub-exceptions)"),
        ),
        (OSError("no caf\udce9, größer 🚀"), Failure(kind="OSError", message="no caf\\udce9, größer 🚀")),
        (AgentError("x", kind="\ud800"), Failure(kind="\\ud800", message="x")),
        (ValueError("x" * 9_000), Failure(kind="ValueError", message="x" * 3_999 + "…")),
    ],
)
def test_an_error_becomes_data_that_names_it(error: Exception, failure: Failure) -> None:
    assert failure_of(error) == failure


def test_names_are_those_of_exceptions_only() -> None:
    assert names_of(KeyError("x")) == {"KeyError", "LookupError", "Exception"}
