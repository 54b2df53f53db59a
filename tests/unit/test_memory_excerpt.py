"""The beginning of any JSON value fits into its room, and can be encoded."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orka.memory.excerpt import excerpt
from orka.types import Json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "", "short", [], {}, [1, "a"], {"a": {"b": [None, False]}}])
def test_what_fits_is_left_as_it_is(value: Json) -> None:
    assert excerpt(value, 100) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("abcdefghij", "abcd…"),
        (["ab", "cd", "ef"], ["ab", "…", "…"]),
        ({"a": "b", "c": "d", "e": "f"}, {"a": "b", "…": "…"}),
        ([[[[[[[[["deep"]]]]]]]]], [[[["…"]]]]),
        (2**64, "…"),
        (-(2**63) - 1, "…"),
        (2**64 - 1, 2**64 - 1),
        ("\ud800x", "?x"),
    ],
)
def test_what_does_not_fit_is_cut(value: Json, shown: Json) -> None:
    assert excerpt(value, 5) == shown


def test_lists_inside_each_other_end_at_the_eighth() -> None:
    value: Json = "bottom"
    for _ in range(5_000):
        value = [value]
    assert json.dumps(excerpt(value, 1_000), ensure_ascii=False) == "[" * 8 + '"…"' + "]" * 8


@given(VALUES, st.integers(1, 300))
def test_every_value_is_bounded_and_can_be_encoded(value: Json, room: int) -> None:
    shown = msgspec.json.encode(excerpt(value, room))
    # Characters may take four bytes, or six when JSON escapes them; numbers and brackets count little.
    assert len(shown) < 30 * room + 100


def test_no_more_is_looked_at_than_is_shown() -> None:
    class Watched(list[Json]):
        seen = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            for item in super().__iter__():
                self.seen += 1
                yield item

    values = Watched(["x" * 10] * 100_000)
    excerpt(values, 100)
    assert values.seen < 15
