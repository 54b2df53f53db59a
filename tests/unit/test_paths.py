"""How visits are named."""

from hypothesis import given
from hypothesis import strategies as st

from orka.journal.paths import ROOT, escape, frame_of, member, parents, readable, round_of, visit
from orka.types import NodeId, Path


def test_visits_are_named_by_frame_id_and_number() -> None:
    assert visit(ROOT, "triage", 1) == "triage"
    assert visit(ROOT, "triage", 2) == "triage#2"
    assert visit(member(Path("research"), 1), "search", 1) == "research.1/search"
    assert visit(round_of(Path("debate"), 2), "critic", 3) == "debate[2]/critic#3"


def test_what_means_something_in_a_path_is_escaped_in_ids() -> None:
    assert escape(NodeId("openai-answer_14")) == "openai-answer_14"
    assert escape(NodeId("two words")) == "two words"
    assert escape(NodeId("fork.0.1")) == "fork%2E0%2E1"
    assert escape(NodeId("a/b[1]#2%")) == "a%2Fb%5B1%5D%232%25"
    assert escape(NodeId("größe")) == "größe"


def test_parents_are_visits_and_rounds_innermost_first() -> None:
    assert parents(Path("triage")) == []
    assert parents(Path("debate[2]")) == ["debate"]
    assert parents(Path("spread.0/a")) == ["spread"]
    assert parents(Path("debate[2]/spread#2.1/critic")) == ["debate[2]/spread#2", "debate[2]", "debate"]
    assert parents(Path("m.10/l[3]/f.0/x#2")) == ["m.10/l[3]/f", "m.10/l[3]", "m.10/l", "m"]


def test_the_frame_of_a_visit_is_what_stands_before_its_name() -> None:
    assert frame_of(Path("triage#2")) == ""
    assert frame_of(Path("debate[2]")) == ""
    assert frame_of(Path("debate[2]/critic")) == "debate[2]"
    assert frame_of(Path("m.10/l[3]")) == "m.10"


@given(st.lists(st.tuples(st.text(min_size=1), st.integers(1, 3), st.sampled_from([".", "[", ""])), min_size=1))
def test_any_ids_give_paths_that_are_taken_apart_where_they_were_put_together(
    steps: list[tuple[str, int, str]],
) -> None:
    frame, made = ROOT, list[Path]()
    for node_id, number, opens in steps:
        path = visit(frame, escape(NodeId(node_id)), number)
        assert frame_of(path) == frame
        assert parents(path) == made[::-1]
        made.append(path)
        if opens == "[":
            frame = round_of(path, number)
            made.append(frame)
        else:
            frame = member(path, number)


def test_people_read_ids_as_they_are() -> None:
    assert readable("outer.1/outer%2E1%2E1.1/q2") == "outer.1/outer.1.1.1/q2"
    assert readable("plain") == "plain"
