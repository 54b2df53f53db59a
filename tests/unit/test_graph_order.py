"""The stable order of a list under `depends_on`."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orka.graph.order import Cycle, order_sequence
from orka.types import NodeId


def order(listed: str, **depends_on: str) -> str | Cycle:
    found = order_sequence(
        [NodeId(x) for x in listed], {NodeId(k): [NodeId(x) for x in v] for k, v in depends_on.items()}
    )
    return found if isinstance(found, Cycle) else "".join(found)


@pytest.mark.parametrize(
    ("listed", "depends_on", "ordered"),
    [
        ("abc", {}, "abc"),
        ("abc", {"a": "c"}, "bca"),
        ("abcd", {"a": "d", "c": "b"}, "bcda"),
        ("abc", {"a": "a"}, "abc"),
        ("abc", {"a": "xyz"}, "abc"),
        ("aba", {"b": "a"}, "aba"),
        ("bab", {"b": "a"}, "abb"),
        ("", {}, ""),
    ],
)
def test_ids_come_after_what_they_depend_on_and_else_stay(
    listed: str, depends_on: dict[str, str], ordered: str
) -> None:
    assert order(listed, **depends_on) == ordered


def test_a_cycle_is_named_in_the_order_of_its_dependencies() -> None:
    assert order("xabc", x="a", a="b", b="c", c="a") == Cycle((NodeId("a"), NodeId("b"), NodeId("c")))


def test_a_chain_of_ten_thousand_is_ordered_without_recursion() -> None:
    ids = [NodeId(str(number)) for number in range(10_000)]
    depends_on = {here: [after] for here, after in itertools.pairwise(ids)}
    assert order_sequence(ids, depends_on) == tuple(reversed(ids))
    depends_on[ids[-1]] = [ids[0]]
    assert order_sequence(ids, depends_on) == Cycle(tuple(ids))


@given(st.permutations(range(8)), st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=14))
def test_the_order_is_a_permutation_that_respects_every_dependency(
    listed: list[int], edges: set[tuple[int, int]]
) -> None:
    depends_on = {NodeId(str(n)): [NodeId(str(b)) for a, b in sorted(edges) if a == n] for n in range(8)}
    found = order_sequence([NodeId(str(n)) for n in listed], depends_on)
    if isinstance(found, Cycle):
        following = [*found.ids[1:], found.ids[0]]
        assert all(after in depends_on[here] for here, after in zip(found.ids, following, strict=True))
    else:
        assert sorted(found) == [str(n) for n in range(8)]
        place = {name: number for number, name in enumerate(found)}
        assert all(a == b or place[NodeId(str(b))] < place[NodeId(str(a))] for a, b in edges)
