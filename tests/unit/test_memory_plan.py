"""What the search module is asked: nothing of a user's inside the query."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orka.memory.layout import Layout
from orka.memory.plan import merge_candidates, plan_look
from orka.memory.query import Candidate, Filters, Look
from orka.memory.record import new_record
from orka.redis.lua import Command

LAYOUT = Layout(embedder="e", dimension=4, version=3, ef_runtime=77)
VECTOR = np.array([1, 0, 0, 0], np.float32)


def planned(look: Look) -> Command:
    command = plan_look(look, LAYOUT, "index")
    assert command is not None
    return command


def test_a_look_by_vector() -> None:
    look = Look(count=5, filters=Filters(namespace=("a", "b"), since_ms=7), at_ms=9, vector=VECTOR)
    assert planned(look) == (
        *("FT.SEARCH", "index"),
        "(@namespace:{$p0|$p2} @timestamp:[$since $p6] -@orka_expire_time:[(0 $p8])"
        "=>[KNN $k @v3 $vector EF_RUNTIME $width AS distance]",
        *("SORTBY", "distance", "LIMIT", "0", "5", "RETURN", "13", "distance", "content", "namespace", "memory_type"),
        *("category", "session", "node_id", "trace_id", "timestamp", "importance_score", "orka_expire_time"),
        *("metadata", "labels", "TIMEOUT", "10000", "DIALECT", "2", "PARAMS", "16", "p0", "a", "p2", "b", "since", "7"),
        *("p6", "+inf", "p8", "9", "k", "5", "vector", LAYOUT.pack(VECTOR.reshape(1, -1))[0], "width", "77"),
    )


def test_without_filters_the_graph_is_walked() -> None:
    """Left to itself the module compares all vectors of a small index, as the condition on the expiry is a filter."""
    query = planned(Look(count=5, filters=Filters(), at_ms=9, vector=VECTOR))[2]
    assert (
        query
        == "(-@orka_expire_time:[(0 $p0])=>[KNN $k @v3 $vector EF_RUNTIME $width HYBRID_POLICY BATCHES AS distance]"
    )


def test_a_look_by_words_repeats_the_conditions_for_each() -> None:
    look = Look(count=5, filters=Filters(), at_ms=9, words=("one", "two"))
    condition = "(-@orka_expire_time:[(0 $p0])=>{$weight: 0}"
    assert planned(look)[2] == f"(@content|words:($p2) {condition})|(@content|words:($p4) {condition})"
    assert planned(look)[3:7] == ("VERBATIM", "WITHSCORES", "SCORER", "BM25STD")


def test_a_look_by_words_under_filters_chooses_once_and_counts_each() -> None:
    look = Look(count=5, filters=Filters(namespace="n"), at_ms=9, words=("one", "two"))
    assert planned(look)[2] == (
        "(@content|words:($p4)|@content|words:($p6))=>{$weight: 0} "
        "(@namespace:{$p0} -@orka_expire_time:[(0 $p2])=>{$weight: 0} "
        "~(@content|words:($p4)) ~(@content|words:($p6))"
    )
    alone = Look(count=5, filters=Filters(namespace="n"), at_ms=9, words=("one",))
    assert "~" not in str(planned(alone)[2])


def test_the_newest_are_looked_for_further_and_further_back() -> None:
    filters = Filters(namespace="since", since_ms=1_000_000 - 20_000, until_ms=1_000_001)
    command = planned(Look(count=5, offset=2, filters=filters, at_ms=2_000_000))
    assert command[0] == "EVAL"
    count, enough, place, *windows = [str(word) for word in command[4:10]]
    assert (count, enough, windows) == ("3", "7", ["999000", "990000", "980000"])
    search = command[10:]
    assert search[0] == "FT.SEARCH"
    assert search[int(place) - 2 : int(place)] == ("since", "980000")


def test_what_cannot_match_is_not_asked() -> None:
    for filters in (Filters(namespace=()), Filters(metadata={"a": ()})):
        assert plan_look(Look(count=5, filters=filters, at_ms=9), LAYOUT, "index") is None
    assert plan_look(Look(count=0, filters=Filters(), at_ms=9), LAYOUT, "index") is None
    nothing = Look(count=5, filters=Filters(), at_ms=9, vector=np.zeros(4, np.float32))
    assert plan_look(nothing, LAYOUT, "index") is None


@given(st.text(), st.text(min_size=1), st.text(), st.text())
def test_no_text_of_a_user_is_in_the_query(namespace: str, word: str, name: str, value: str) -> None:
    def queries(namespace: str, word: str, name: str, value: str) -> list[object]:
        filters = Filters(namespace=namespace, metadata={name: value})
        looks = [
            Look(count=5, filters=filters, at_ms=9, vector=VECTOR),
            Look(count=5, filters=filters, at_ms=9, words=(word,)),
            Look(count=5, filters=filters, at_ms=9, words=(word, "other")),
            Look(count=5, filters=filters, at_ms=9),
        ]
        commands = [planned(look) for look in looks]
        return [command[command.index("FT.SEARCH") + 2] for command in commands]

    assert queries(namespace, word, name, value) == queries("a", "b", "c", "d")


def test_the_best_of_several_indexes() -> None:
    def candidates(*values: float, by: str) -> list[Candidate]:
        record = new_record("x")
        return [Candidate(record=record, **{by: value}) for value in values]

    near = Look(count=3, filters=Filters(), at_ms=9, vector=VECTOR)
    parts = [candidates(0.9, 0.1, by="similarity"), candidates(0.5, 0.4, by="similarity"), []]
    assert [one.similarity for one in merge_candidates(parts, near)] == [0.9, 0.5, 0.4]
    words = Look(count=2, filters=Filters(), at_ms=9, words=("w",))
    parts = [candidates(1.0, by="relevance"), candidates(7.0, 2.0, by="relevance")]
    assert [one.relevance for one in merge_candidates(parts, words)] == [7.0, 2.0]
    pages = [[Candidate(record=new_record("x", timestamp_ms=t)) for t in times] for times in ((9, 5, 1), (8, 7))]
    page = Look(count=2, offset=1, filters=Filters(), at_ms=9)
    assert [one.record.timestamp_ms for one in merge_candidates(pages, page)] == [8, 7]


def test_a_small_index_is_compared_whole() -> None:
    query = plan_look(Look(count=5, filters=Filters(), at_ms=9, vector=VECTOR), LAYOUT, "index", documents=100)
    assert query is not None
    assert "HYBRID_POLICY" not in str(query[2])
