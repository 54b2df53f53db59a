"""`orka doctor RUN`: why does this run not move? Everything that is known, and what to do, on one screen."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from orka.cli.exits import Exit
from orka.cli.interrupt import run_until_stopped
from orka.cli.lookup import find_run
from orka.cli.output import print_json, print_table, safe_line, safe_text, span
from orka.cli.runs import AsJson, RunArgument
from orka.cli.workers import described
from orka.dispatch.findings import BranchInfo, BranchState, Diagnosis, find_reasons
from orka.journal.paths import readable
from orka.runs import open_runs
from orka.settings import Settings

_MOST_ROWS = 20
"""Branches, agents and letters shown one by one."""
_ORDER = (BranchState.LOST, BranchState.PARKED, BranchState.QUEUED, BranchState.RUNNING, BranchState.DONE)
"""Those that wait for something come first."""


def doctor(run: RunArgument, /, *, json: AsJson = False) -> int:
    """Tell why a run does not move, and what to do. Reads only."""

    async def work() -> int:
        async with open_runs(Settings.from_environment()) as runs:
            facts = await runs.diagnose(await find_run(runs, run))
        if json:
            print_json(_as_json(facts))
        else:
            _print_facts(facts)
        return Exit.OK

    return run_until_stopped(work)


def _as_json(facts: Diagnosis) -> dict[str, Any]:
    return {
        **asdict(facts.info),
        "stale": facts.info.stale,
        "cancel_ms": facts.cancel_ms,
        "branches": [{**asdict(branch), "abandoned": facts.abandoned(branch)} for branch in facts.branches],
        "agents": [asdict(agent) for agent in facts.agents],
        "letters": [asdict(letter) for letter in facts.letters],
        "limits": [asdict(usage) for usage in facts.limits],
        "workers": [described(worker, facts.local_ms) for worker in facts.workers],
        "findings": [asdict(finding) for finding in find_reasons(facts)],
    }


def _print_facts(facts: Diagnosis) -> None:
    info = facts.info
    owner = "nobody"
    if info.lease_left_ms:
        owner = f"{info.holder}, for {span(info.lease_left_ms)} more unless renewed"
    elif info.holder:
        owner = f"nobody; the last one was {info.holder}"
    lines = {
        "run": info.run_id,
        "status": f"{info.status} (generation {info.generation}, {info.entries} entries)",
        "graph": info.graph,
        "queue": info.queue,
        "owner": owner,
        "deadline": "" if info.deadline_ms is None else _deadline(info.deadline_ms - facts.now_ms),
        "cancel": "" if facts.cancel_ms is None else f"wanted {span(facts.now_ms - facts.cancel_ms)} ago",
    }
    for name, value in lines.items():
        if value:
            print(f"{name:<9} {safe_text(value)}")
    _print_branches(facts)
    _print_agents(facts)
    _print_limits(facts)
    _print_letters(facts)
    print()
    for finding in find_reasons(facts):
        print(f"* {safe_line(finding.what, 400)}")
        if finding.remedy:
            print(f"  -> {safe_line(finding.remedy, 400)}")


def _deadline(left_ms: int) -> str:
    return f"in {span(left_ms)}" if left_ms >= 0 else f"passed {span(-left_ms)} ago"


def _print_branches(facts: Diagnosis) -> None:
    if not facts.branches:
        return
    counts = Counter(branch.state for branch in facts.branches)
    print("\nbranches: " + ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state]))
    ordered = sorted(facts.branches, key=lambda branch: (_ORDER.index(branch.state), branch.since_ms))
    titles = ("PATH", "STATE", "QUEUE", "WHERE", "SINCE", "DELIVERIES", "DEATHS", "WHY")
    print_table(titles, (_branch(facts, branch) for branch in ordered[:_MOST_ROWS]))
    _print_rest(len(ordered))


def _branch(facts: Diagnosis, branch: BranchInfo) -> tuple[str, ...]:
    where, since = branch.worker, f"{span(facts.now_ms - branch.since_ms)} ago"
    if branch.state is BranchState.RUNNING:
        silent = " (gone)" if facts.abandoned(branch) else ""
        where += f"{silent}, seen {span(branch.idle_ms)} ago"
    elif branch.state is BranchState.PARKED:
        since = f"again in {span(branch.since_ms - facts.now_ms)}"
    elif branch.state is BranchState.DONE:
        where = "waits for its parent"
    return (
        *(readable(branch.path) or "(run)", branch.state.value, branch.queue, where or "-", since),
        *(str(branch.deliveries or "-"), str(branch.deaths or "-"), safe_line(branch.why, 100)),
    )


def _print_agents(facts: Diagnosis) -> None:
    if not facts.agents:
        return
    print("\nagents that began and have not ended:")
    rows = (
        (readable(agent.path), str(agent.attempt), span(facts.local_ms - agent.since_ms), safe_line(agent.error, 100))
        for agent in facts.agents[:_MOST_ROWS]
    )
    print_table(("PATH", "ATTEMPT", "FOR", "LAST ERROR"), rows)
    _print_rest(len(facts.agents))


def _print_limits(facts: Diagnosis) -> None:
    run = facts.info.run_id
    crowded = [(usage, mine) for usage in facts.limits if (mine := usage.of_run(run))]
    if not crowded:
        return
    print("\nlimits that it waits for:")
    rows = (
        (
            usage.limit.name,
            f"{len(usage.holders)} of {usage.limit.most}" if usage.limit.most else "-",
            f"{len(usage.waiting)} in line, {len(usage.turns)} with a turn to come",
            str(len(mine)),
            span(usage.turns[0].ms) if usage.turns else "-",
        )
        for usage, mine in crowded[:_MOST_ROWS]
    )
    print_table(("LIMIT", "HELD", "WAITING", "OF THIS RUN", "NEXT TURN"), rows)
    _print_rest(len(crowded))


def _print_letters(facts: Diagnosis) -> None:
    if not facts.letters:
        return
    print("\ndead letters:")
    rows = (
        (letter.id, readable(letter.path) or "(run)", str(letter.deaths), safe_line(letter.reason, 100))
        for letter in facts.letters[:_MOST_ROWS]
    )
    print_table(("ID", "PATH", "DEATHS", "REASON"), rows)
    _print_rest(len(facts.letters))


def _print_rest(count: int) -> None:
    if count > _MOST_ROWS:
        print(f"... and {count - _MOST_ROWS} more (--json shows them)")
