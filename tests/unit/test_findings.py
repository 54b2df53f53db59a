"""What `orka doctor` concludes from what is known."""

from dataclasses import replace
from typing import Any

import pytest

from orka.dispatch.dead import Letter
from orka.dispatch.findings import AgentInfo, BranchInfo, BranchState, Diagnosis, agents_under_way, find_reasons
from orka.dispatch.roster import WorkerInfo, remedy_for, serving
from orka.journal.entries import (
    BranchFinished,
    Kind,
    NodeFinished,
    NodeRetrying,
    NodeStarted,
    RoundScored,
    Row,
    RunResumed,
)
from orka.journal.registry import RunInfo
from orka.results import Failure
from orka.types import Digest, Path, RunId, RunStatus

NOW = 1_000_000
INFO = RunInfo(
    run_id=RunId("r-1"),
    status=RunStatus.RUNNING,
    graph="g",
    digest=Digest("d"),
    input="x",
    created_ms=1,
    ended_ms=None,
    holder="pid 7 on box",
    lease_left_ms=5_000,
    entries=3,
    generation=1,
    deadline_ms=None,
    version="1",
)
BRANCH = BranchInfo(
    path=Path("spread.0"),
    state=BranchState.QUEUED,
    queue="default",
    level=1,
    worker="",
    since_ms=NOW - 1_000,
    idle_ms=0,
    deliveries=0,
    deaths=0,
    why="",
)
WORKER = WorkerInfo(
    worker="box-1",
    host="box",
    pid=1,
    queues=("default",),
    concurrency=2,
    running=0,
    parked=0,
    done=0,
    started_ms=1,
    seen_ms=NOW,
    progress_ms=NOW,
    lease_ms=10_000,
    holder="",
    version="1",
    state="running",
    abandoned=0,
)
LETTER = Letter(
    id="3-5-0",
    run=INFO.run_id,
    path=Path("spread.1"),
    queue="default",
    level=1,
    reason="given up",
    deaths=3,
    died_ms=NOW,
    task="{}",
)


def facts(info: RunInfo = INFO, **known: Any) -> Diagnosis:
    given: dict[str, Any] = {"cancel_ms": None, "branches": (), "agents": (), "letters": (), "workers": (), **known}
    return Diagnosis(info=info, now_ms=NOW, local_ms=NOW, **given)


def reasons(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(finding.what, finding.remedy) for finding in find_reasons(diagnosis)]


def test_a_run_without_anything_to_say_gets_a_sentence_nevertheless() -> None:
    assert reasons(facts()) == [("nothing hinders it: it waits for nothing that is known", "")]


def test_a_queue_that_nobody_serves_is_named_with_the_command_that_serves_it() -> None:
    gpu = replace(BRANCH, queue="gpu")
    assert reasons(facts(branches=(gpu, replace(gpu, path=Path("spread.1"))), workers=(WORKER,))) == [
        ("nobody serves queue 'gpu': 2 tasks wait for a worker", "start `orka worker --queue gpu`")
    ]
    assert reasons(facts(branches=(BRANCH,))) == [
        ("nobody serves queue 'default': 1 task waits for a worker", "start `orka worker`")
    ]


@pytest.mark.parametrize("change", [{"seen_ms": NOW - 20_001}, {"state": "stopping"}, {"queues": ("other",)}])
def test_workers_that_take_nothing_do_not_serve(change: dict[str, Any]) -> None:
    worker = replace(WORKER, **change)
    assert "default" not in serving([worker], NOW)
    assert reasons(facts(branches=(BRANCH,), workers=(worker,)))[0][1] == "start `orka worker`"


def test_full_workers_are_told_from_free_ones() -> None:
    full = replace(WORKER, running=2)
    assert reasons(facts(branches=(BRANCH,), workers=(full,))) == [
        (
            "every slot of the workers of queue 'default' is taken (2 of 2): 1 task waits",
            "start another `orka worker`",
        )
    ]
    assert reasons(facts(branches=(BRANCH,), workers=(WORKER, full))) == [
        ("1 task waits on queue 'default', whose workers have free slots", "")
    ]


def test_a_parked_branch_says_why() -> None:
    why = "this worker has no agent type 'gpu': start it with --import MODULE"
    parked = replace(BRANCH, state=BranchState.PARKED, why=why)
    (found,) = reasons(facts(branches=(parked,), workers=(WORKER,)))
    assert why in found[0]
    assert found[1] == "give a worker of queue 'default' what it lacks, or start another one that has it"


def test_a_worker_without_a_sign_of_life_is_named() -> None:
    running = replace(BRANCH, state=BranchState.RUNNING, worker="box-1", idle_ms=1)
    late = replace(WORKER, seen_ms=NOW - 15_000, lease_ms=10_000)
    assert not facts(branches=(running,), workers=(WORKER,)).abandoned(running)
    assert not facts(branches=(running,), workers=(replace(WORKER, state="stopping"),)).abandoned(running)
    assert not facts(branches=(running,)).abandoned(running)
    assert facts(branches=(running,)).abandoned(replace(running, idle_ms=20_000))
    assert reasons(facts(branches=(running,), workers=(late,))) == [
        (
            "worker box-1 has 1 task(s) of it and gives no sign of life",
            "start `orka worker`: it is given them when that lease is over",
        )
    ]
    other = replace(WORKER, worker="box-2")
    assert reasons(facts(branches=(running,), workers=(late, other)))[0][1] == (
        "another worker is given them when its lease is over"
    )


def test_a_run_that_nobody_executes_is_resumed_by_hand_or_by_a_worker() -> None:
    gone = replace(INFO, lease_left_ms=0)
    assert reasons(facts(gone)) == [("nobody executes it: pid 7 on box is gone", "`orka resume r-1`")]
    submitted = replace(gone, on_queue=True)
    assert reasons(facts(submitted, workers=(WORKER,))) == [
        ("nobody executes it: pid 7 on box is gone, and a worker goes on with it", "")
    ]
    assert "start `orka worker`" in reasons(facts(submitted))[0][1]


def test_deaths_deadlines_and_wishes_are_said() -> None:
    dying = replace(BRANCH, state=BranchState.RUNNING, worker="box-1", deaths=2)
    found = reasons(
        facts(replace(INFO, deadline_ms=NOW - 3_000), cancel_ms=NOW - 2_000, branches=(dying,), workers=(WORKER,))
    )
    assert [what for what, _ in found] == [
        "somebody wanted it cancelled 2.0 s ago, and it has not ended yet",
        "its deadline passed 3.0 s ago; whoever executes it next ends it",
        "spread.0 has taken 2 worker(s) down; after too many it is given up",
    ]
    lost = replace(BRANCH, state=BranchState.LOST)
    assert reasons(facts(branches=(lost,)))[0][1] == "whoever sent it sends it again within a lease"


def test_an_ended_run_says_so_and_its_letters_can_be_retried() -> None:
    failed = replace(INFO, status=RunStatus.FAILED, lease_left_ms=0)
    assert reasons(facts(failed, letters=(LETTER,))) == [
        ("it is failed", "why: `orka runs show r-1`; try again: `orka resume r-1`"),
        ("spread.1 was given up: given up", "`orka dead retry 3-5-0`"),
    ]
    assert reasons(facts(letters=(LETTER,)))[0][1] == "`orka dead show 3-5-0`"
    assert reasons(facts(replace(failed, on_queue=True)))[0] == (
        "it is failed, and waits on a queue for a worker that resumes it",
        "",
    )
    assert reasons(facts(replace(failed, status=RunStatus.COMPLETED)))[0][0] == "it is completed"


def test_agents_under_way_are_shown_with_their_time() -> None:
    agent = AgentInfo(path=Path("slow"), node_id="slow", attempt=2, since_ms=NOW - 90_000, error="")
    assert reasons(facts(agents=(agent,))) == [
        ("slow is under way for 90.0 s (attempt 2)", "if that is too long: `timeout:` on its node")
    ]


def row(path: str, body: Any) -> Row:
    return Row(Kind.NODE_STARTED, Path(path), body)


def begun(path: str, at_ms: int = 5) -> Row:
    return row(path, NodeStarted(id=path.rpartition("/")[2], node="n", at_ms=at_ms))


def ended(path: str, **more: Any) -> Row:
    return row(path, NodeFinished(id="x", node="n", at_ms=1, ms=1, **more))


def under_way(*rows: Row) -> list[str]:
    return [agent.path for agent in agents_under_way(rows)]


def test_what_has_ended_is_not_under_way() -> None:
    assert under_way(begun("a"), ended("a"), begun("b", 9), begun("c", 7)) == ["c", "b"]


def test_what_a_join_a_round_or_a_failover_decided_without_is_not_under_way() -> None:
    assert under_way(begun("spread.0/a"), begun("spread.1/b"), begun("spreads"), ended("join", fork="spread")) == [
        "spreads"
    ]
    round_ = row("loop[1]", RoundScored(id="loop", node="n", at_ms=1, round=1, score=0, met=False, timed_out=True))
    assert under_way(begun("loop[1]/a"), begun("loop[10]/a"), round_) == ["loop[10]/a"]
    assert under_way(begun("fail.0/a"), ended("fail")) == []
    assert under_way(begun("s.1/a"), begun("s.11/a"), row("s.1", BranchFinished(worker="w"))) == ["s.11/a"]


def test_a_resumed_run_has_nothing_under_way_from_before() -> None:
    resumed = row("", RunResumed(digest="d", at_ms=1, version="1", holder="h"))
    assert under_way(begun("a"), resumed, begun("b")) == ["b"]


def test_an_attempt_to_come_tells_the_error_of_the_one_before() -> None:
    retrying = row(
        "a", NodeRetrying(id="a", node="n", at_ms=5, attempt=1, error=Failure(kind="E", message="no"), delay_ms=9)
    )
    (agent,) = agents_under_way([begun("a"), retrying])
    assert (agent.attempt, agent.error) == (2, "no")


def test_the_remedy_names_the_queue() -> None:
    assert (remedy_for("default"), remedy_for("gpu")) == ("`orka worker`", "`orka worker --queue gpu`")
