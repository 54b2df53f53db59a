"""Records and their hashes: everything comes back as it was."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orka.errors import RecordRefused
from orka.memory.query import Filters
from orka.memory.record import (
    PREFIX,
    decode_record,
    encode_facet,
    encode_fields,
    encode_tag,
    is_first_write,
    key_for,
    new_key,
    new_record,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)


def hash_of(record):
    fields = encode_fields(record)
    raw = [value.encode() if isinstance(value, str) else value for value in fields]
    return dict(zip(raw[::2], raw[1::2], strict=True))


@given(TEXT, TEXT, TEXT, TEXT, st.dictionaries(TEXT, SCALARS | st.lists(SCALARS), max_size=5), st.floats(0, 1))
def test_a_record_survives_its_hash(content, namespace, session, category, metadata, importance):
    record = new_record(
        content,
        namespace=namespace,
        session=session,
        category=category,
        metadata=metadata,
        importance=importance,
        expire_ms=123,
        timestamp_ms=5,
    )
    assert decode_record(record.key, hash_of(record)) == record


@given(TEXT)
def test_tags_are_short_and_plain(value):
    tag = encode_tag(value)
    assert 0 < len(tag) <= 257
    assert tag == tag.strip()
    assert "\x1f" not in tag


@given(TEXT, TEXT)
def test_tags_tell_values_apart(one, other):
    assert (encode_tag(one) == encode_tag(other)) == (one == other)


def test_a_value_that_looks_like_an_encoded_one_is_encoded():
    assert encode_tag(encode_tag("")) != encode_tag("")


def test_facets_are_of_scalars():
    assert encode_facet("a", 1) == "a=1"
    assert encode_facet("a", True) == "a=true"
    assert encode_facet("a", None) == "a=null"
    assert encode_facet("a", "x") == "a=x"
    assert encode_facet("a", [1]) is None


def test_a_name_with_a_sign_of_equality_is_no_other_name():
    facets = {encode_facet("a=b", "c"), encode_facet("a", "b=c"), encode_facet("", "a=b=c"), encode_facet("=", "a")}
    assert len(facets) == 4
    assert encode_facet("a=b", [1]) is None


def test_the_same_name_has_the_same_key():
    assert key_for("name", "ns", "x") == key_for("name", "ns", "x")
    assert key_for("a", "bc") != key_for("ab", "c")
    assert new_key() != new_key()
    assert len(new_key()) == len(PREFIX) + 32


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"content": 5}, "content is text"),
        ({"content": "x", "namespace": 3}, "namespace of a memory is text"),
        ({"content": "x", "metadata": {"a": object()}}, "must be JSON"),
        ({"content": "x", "importance": float("nan")}, "not a number from 0 to 1"),
        ({"content": "x", "key": "elsewhere"}, "begin with 'orka_memory:'"),
        ({"content": "x", "key": "orka_memory:a\0b"}, "has a NUL"),
        ({"content": "x" * 9_000_000}, "too long"),
    ],
)
def test_what_cannot_be_stored_is_refused(arguments, why):
    with pytest.raises(RecordRefused, match=why):
        new_record(**arguments)


def test_half_a_surrogate_pair_is_replaced():
    assert new_record("a\ud800b").content == "a?b"


def test_a_memory_of_orka_0_9():
    fields = {
        b"content": b"hello",
        b"node_id": b"writer",
        b"trace_id": b"t1",
        b"timestamp": b"1700000000000",
        b"importance_score": b"0.9",
        b"memory_type": b"long_term",
        b"metadata": b'{"namespace":"books","category":"stored","log_type":"memory","source":"x"}',
        b"orka_expire_time": b"1800000000000",
        b"content_vector": bytes(1536),
    }
    record = decode_record("orka_memory:1", fields)
    assert record is not None
    assert (record.namespace, record.category, record.memory_type) == ("books", "stored", "long_term")
    assert (record.importance, record.timestamp_ms, record.expire_ms) == (0.9, 1700000000000, 1800000000000)


def test_broken_hashes_are_read_as_far_as_they_can_be():
    record = decode_record("orka_memory:1", {b"content": b"\xff", b"metadata": b"{", b"timestamp": b"x"})
    assert record is not None
    assert record.timestamp_ms == 0
    assert decode_record("orka_memory:1", {}) is None
    for broken in (b'{"a": "\xff"}', b"[" * 100_000, b"[1]"):
        record = decode_record("orka_memory:1", {b"content": b"x", b"metadata": broken, b"labels": broken})
        assert record is not None
        assert record.metadata == {}
    for nonsense in (b"1e300", b"-1e300", b"nan", b"inf", b"\xff"):
        told = {b"timestamp": nonsense, b"orka_expire_time": nonsense, b"importance_score": b"7"}
        record = decode_record("orka_memory:1", {b"content": b"x", **told})
        assert record is not None
        assert (record.timestamp_ms, record.expire_ms, record.importance) == (0, 0, 1.0)


@pytest.mark.parametrize("name", ["timestamp_ms", "expire_ms"])
@pytest.mark.parametrize("bad", ["soon", "5", 1e300, float("nan"), 10**400, [1]])
def test_what_is_no_time_is_refused(name: str, bad: object) -> None:
    with pytest.raises(RecordRefused, match=f"{name}=.* is no time in milliseconds"):
        new_record("x", **{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("written", [b"0", b"-1", b"-5"])
def test_a_hash_that_says_no_time_never_expires(written: bytes) -> None:
    record = decode_record("orka_memory:1", {b"content": b"x", b"orka_expire_time": written})
    assert record is not None
    assert record.expire_ms == 0
    assert not record.expired(10**15)


def test_filters():
    record = new_record(
        "x", namespace="a", category="c", importance=0.5, timestamp_ms=100, expire_ms=200, metadata={"n": 1, "l": [1]}
    )
    assert Filters().match(record, 150)
    assert not Filters().match(record, 200)
    assert Filters(namespace=("b", "a"), category="c").match(record, 0)
    assert not Filters(namespace="b").match(record, 0)
    assert not Filters(namespace=()).match(record, 0)
    assert Filters(least_importance=0.5, since_ms=100, until_ms=101).match(record, 0)
    assert not Filters(until_ms=100).match(record, 0)
    assert Filters(metadata={"n": 1}).match(record, 0)
    assert Filters(metadata={"n": (2, 1)}).match(record, 0)
    assert not Filters(metadata={"n": "1 "}).match(record, 0)
    assert not Filters(metadata={"m": None}).match(record, 0)


def test_a_key_drawn_for_a_record_is_new_once_and_for_that_record_alone() -> None:
    record = new_record("text")
    copy = msgspec.structs.replace(record, content="other")
    assert not is_first_write(copy)  # the original may be stored by then
    assert is_first_write(record)
    assert not is_first_write(record)  # an attempt of which nobody knows how far it came
    assert not is_first_write(new_record("text", key=record.key))
