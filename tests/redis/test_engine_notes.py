"""Whoever watches a run in its own process is told of pure agents that begin; nothing of that is stored."""

import asyncio
from pathlib import Path

from support.journals import entries_of, graph_file

from orka.engine.notes import watch_beginnings
from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.settings import Settings


async def test_pure_agents_are_noted_for_the_task_that_watches_alone(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    file = graph_file(
        tmp_path,
        "f, j, c",
        """
        - {id: f, type: fork, targets: [[a], [b]]}
        - {id: a, type: echo}
        - {id: b, type: failing, retry: {attempts: 2, delay: 0}}
        - {id: j, type: join, group: f}
        - {id: c, type: echo}
        """,
    )
    noted: list[str] = []
    run_id = new_run_id()
    async with Orchestrator(file, settings=redis_settings) as orchestrator:

        async def watched() -> None:
            with watch_beginnings(lambda path, at_ms: noted.append(path) if at_ms else None):
                await orchestrator.execute("x", run_id=run_id)

        await asyncio.gather(watched(), orchestrator.execute("y"))
    assert sorted(noted) == ["c", "f.0/a", "f.1/b", "f.1/b"]
    assert "node.started" not in [kind for kind, _, _ in await entries_of(clean_redis.client, run_id)]
