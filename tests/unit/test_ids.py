"""Ids of runs: version 7 UUIDs that sort in the order in which they were made."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from orka import ids
from orka.ids import new_run_id


def test_ids_of_one_process_sort_in_the_order_in_which_they_were_made() -> None:
    made = [new_run_id() for _ in range(20_000)]  # many in each millisecond, more than the counter holds in some
    assert made == sorted(made)
    assert len(set(made)) == 20_000


def test_ids_made_in_several_threads_are_different_and_sorted_in_each() -> None:
    with ThreadPoolExecutor(4) as pool:
        lists = list(pool.map(lambda _: [new_run_id() for _ in range(2000)], range(4)))
    assert all(made == sorted(made) for made in lists)
    assert len({one for made in lists for one in made}) == 8000


def test_an_id_is_a_version_7_uuid_of_its_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_ticks", ids._Ticks())  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(ids, "now_ms", lambda: 1_767_225_600_000)
    for _ in range(100):
        made = uuid.UUID(new_run_id())
        assert (made.version, made.variant) == (7, uuid.RFC_4122)
        assert made.int >> 80 == 1_767_225_600_000


def test_a_clock_that_is_set_back_does_not_take_ids_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_ticks", ids._Ticks())  # pyright: ignore[reportPrivateUsage]
    times = iter([2_000, 1_000, 1_001])
    monkeypatch.setattr(ids, "now_ms", lambda: next(times))
    first, second, third = new_run_id(), new_run_id(), new_run_id()
    assert first < second < third
