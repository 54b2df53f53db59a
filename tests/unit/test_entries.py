"""What entries say on the wire, for readers of other versions."""

import pytest

from orka.errors import JournalMismatch
from orka.journal.entries import NO_VALUE, RULES, Kind, NodeFinished, RunStarted, decode_body, make_entry


def started(rules: int) -> bytes:
    body = RunStarted(graph="g", digest="d", input=NO_VALUE, at_ms=1, version="1", rules=rules)
    return make_entry(Kind.RUN_STARTED, "", body).data


def test_an_entry_without_rules_follows_the_first_ones_whatever_the_readers_are() -> None:
    for kind, data in (
        (Kind.RUN_STARTED, b'{"graph":"g","digest":"d","input":{},"at_ms":1,"version":"1"}'),
        (Kind.RUN_RESUMED, b'{"digest":"d","at_ms":1,"version":"1","holder":"h"}'),
        (Kind.NODE_FINISHED, b'{"id":"a","node":"n","at_ms":1,"ms":1}'),
    ):
        body = decode_body(kind, data, run_id="r", path="a")
        assert body.rules == 1  # type: ignore[union-attr]


def test_rules_after_the_first_are_written_out_and_refused_by_those_who_follow_others() -> None:
    assert b'"rules":2' in started(2)
    with pytest.raises(JournalMismatch, match="written under version 2 of the interpreter's rules"):
        decode_body(Kind.RUN_STARTED, started(2), run_id="r", path="")
    assert RULES == 1, "the constructors' default stays 1: give `rules=RULES` wherever an entry is made"
    assert NodeFinished(id="a", node="n", at_ms=1, ms=1).rules == 1
