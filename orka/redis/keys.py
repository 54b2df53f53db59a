"""Every key name that Orka uses, and how long each lives.

All keys of a run carry the hash tag of its partition, so that one script can touch them and one primary holds them:

* `{orka:N}:run:<id>` hash: status, lease, sequence number, graph, times. Lives until `retention` after the end.
* `{orka:N}:run:<id>:journal` stream: the run's entries. Lives as long as the run's hash.
* `{orka:N}:run:<id>:values` hash: values too large for an entry, by digest. Lives as long as the run's hash.
* `{orka:N}:run:<id>:tokens` stream: pieces of answers of agents under way, for whoever watches. Bounded; expires ten minutes
  after the last one.
* `{orka:N}:graph:<digest>` hash: the graph's JSON and how many open runs use it. Lives as long as its runs.
* `{orka:N}:runs:open` and `{orka:N}:runs:ended` sorted sets of run ids by start and end; trimmed at each new run.

What branches need that other processes execute is in the same partition as their run:

* `{orka:N}:run:<id>:branches` hash: a record of every branch task under way. A branch's record goes when its fork has
  taken the result in, all of them with the run's end.
* `{orka:N}:run:<id>:scopes` hash: what the branches of a fork see, by the fork's path. Goes with the fork.
* `{orka:N}:tasks:<queue>:<level>` stream with the consumer group `workers`: tasks to do, and under way. Deleted one by
  one as they are done; the empty streams stay.
* `{orka:N}:inbox:<process>` stream: what a process is told (a branch is done, a branch is not wanted any more). Read
  entries are deleted; it expires an hour after the last message.
* `{orka:N}:bell:<process>` stream with the group `workers`: a message in it ends a worker's wait for tasks, and is deleted at
  once. A worker deletes its own when it leaves, the sweeper those of the dead.
* `{orka:N}:parked` sorted set: tasks that no worker could take, by the time at which they are offered again.
* `{orka:N}:dead` stream: tasks that took their worker down too often, until somebody retries or drops them.
* `{orka:N}:limit:<name>:...` what many processes respect together, in the partition of the limit's name: `held` (sorted set:
  who has a place, by the time at which that lapses), `queue` (sorted set: who waits for one, in order), `asked` (hash: what
  they want), `turns` (sorted set: whose turn comes when), `spare` (sorted set: turns given back), `tat` (the time of GCRA).
  All expire with the last lease or turn in them.
* `{orka:0}:queues` set of the queues that workers have served, and `{orka:0}:sweeper` the process that looks after what the
  dead left behind, for as long as it renews that.
* `{orka:0}:workers` sorted set of worker ids by their last sign of life, and `{orka:0}:worker:<id>` hash: what a worker
  says of itself. Both expire.

Memories spread over all slots; what they share is in the first partition:

* `orka_memory:<32 hex digits>` hash: one memory and its vectors. Expires when the memory does.
* `{orka:0}:memory:layout` hash: by which model and in which form memories are indexed. Stays.
* `{orka:0}:memory:lock` the process that makes or changes the index, for as long as it renews that.
* `{orka:0}:memory:changes` stream: keys of memories written and deleted, one entry per batch, for processes that search
  without a search module. Bounded.
* `orka:memory` stream: what happened in workflows, for whoever audits. Bounded.
* `past_loops:<loop>` string: JSON list of the rounds that a loop with `persist_across_runs` keeps for later runs, the last 20.
  Stays, until somebody deletes it. Name and form are those of OrKa 0.9.
* `{past_loops:<loop>}:written` sorted set: visits whose rounds are in it, by time, so that none adds them twice. In the
  same slot. Bounded, and expires 30 days after the last one.
* `orka:embedding:<model>:<digest>` string: the vector of a text, so that it is not computed again. Expires.

What runs have learned is in a slot of its own, so that a skill and its places in the indexes change as one:

* `{orka:brain}:skill:<id>` hash: one skill, its version and its vector. Expires when the skill does.
* `{orka:brain}:skills`, `{orka:brain}:skills:<kind>:<word>` sorted sets: ids of skills by the time at which they expire; the
  kinds are `type`, `domain`, `tag` and `name`. The first holds all; each expires with the last skill in it.
* `{orka:brain}:visit:<digest>` string: the skill that a visit has changed, so that it does not do so again. Expires.
* `{orka:brain}:episode:<id>` hash: one episode and its vector. Belongs to the sets below.
* `{orka:brain}:episodes:succeeded` and `:failed`, `{orka:brain}:episodes:domain:<domain>:succeeded` and `:failed` sorted
  sets: ids of episodes by time. Bounded, and what falls out of them is deleted.
* `{orka:brain}:adopted` hash: how much of what OrKa 0.9 had learned (`orka:brain:...`) has been taken over. Stays.
"""

from __future__ import annotations

from binascii import crc32
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from orka.types import Digest, RunId


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The keys of one run, all in one slot."""

    tag: str
    run: str
    journal: str
    values: str
    branches: str
    scopes: str
    tokens: str


def tag_of(partition: int) -> str:
    """The hash tag of a partition."""
    return f"{{orka:{partition}}}"


@lru_cache(maxsize=4096)
def run_keys(run_id: RunId, partitions: int) -> RunKeys:
    """The partition is CRC-32 of the id, modulo the number of partitions: runs spread over all primaries."""
    tag = tag_of(crc32(run_id.encode()) % partitions)
    run = f"{tag}:run:{run_id}"
    return RunKeys(tag, run, f"{run}:journal", f"{run}:values", f"{run}:branches", f"{run}:scopes", f"{run}:tokens")


def graph_key(tag: str, digest: Digest) -> str:
    return f"{tag}:graph:{digest}"


def open_runs_key(tag: str) -> str:
    return f"{tag}:runs:open"


def ended_runs_key(tag: str) -> str:
    return f"{tag}:runs:ended"


GROUP: Final = "workers"
"""The consumer group of every task stream."""
RUNS, BRANCHES, INNER = 0, 1, 2
"""Levels of task streams: submitted runs, their branches, branches of branches. The innermost are read first, so that
parents who wait for them hold nobody up."""
LEVELS: Final = (INNER, BRANCHES, RUNS)
"""In the order in which workers look into them."""


def task_stream(tag: str, queue: str, level: int) -> str:
    return f"{tag}:tasks:{queue}:{level}"


def inbox_key(tag: str, process: str) -> str:
    return f"{tag}:inbox:{process}"


def moving_key(tag: str) -> str:
    """Never there, and named by every script on a cluster: see `orka.redis.pipeline`."""
    return f"{tag}:moving"


def bell_key(tag: str, process: str) -> str:
    return f"{tag}:bell:{process}"


def limit_keys(name: str, partitions: int) -> tuple[str, str, str, str, str, str]:
    """Held places, queue, what was asked, turns, spare turns, TAT: in this order the scripts want them."""
    limit = f"{tag_of(crc32(name.encode()) % partitions)}:limit:{name}"
    return f"{limit}:held", f"{limit}:queue", f"{limit}:asked", f"{limit}:turns", f"{limit}:spare", f"{limit}:tat"


def parked_key(tag: str) -> str:
    return f"{tag}:parked"


def dead_key(tag: str) -> str:
    return f"{tag}:dead"


def workers_key() -> str:
    return f"{tag_of(0)}:workers"


def worker_key(worker: str) -> str:
    return f"{tag_of(0)}:worker:{worker}"


def queues_key() -> str:
    return f"{tag_of(0)}:queues"


def sweeper_key() -> str:
    return f"{tag_of(0)}:sweeper"


def memory_layout_key() -> str:
    return f"{tag_of(0)}:memory:layout"


def memory_lock_key() -> str:
    return f"{tag_of(0)}:memory:lock"


def memory_changes_key() -> str:
    return f"{tag_of(0)}:memory:changes"


def memory_events_key() -> str:
    return "orka:memory"


def past_loops_key(loop: str) -> str:
    return f"past_loops:{loop}"


def past_loops_written_key(loop: str) -> str:
    """In the slot of `past_loops_key`: the tag is all of that key."""
    return f"{{{past_loops_key(loop)}}}:written"


def embedding_key(model: str, digest: str) -> str:
    return f"orka:embedding:{model}:{digest}"


BRAIN: Final = "{orka:brain}"
"""Begins every key of what was learned."""
SKILL_PREFIX: Final = f"{BRAIN}:skill:"
EPISODE_PREFIX: Final = f"{BRAIN}:episode:"


def skill_key(skill: str) -> str:
    return SKILL_PREFIX + skill


def skills_key(kind: str = "", word: str = "") -> str:
    """`kind` is `type`, `domain`, `tag` or `name`; without one, the set of all skills."""
    return f"{BRAIN}:skills:{kind}:{word}" if kind else f"{BRAIN}:skills"


def brain_visit_key(digest: str) -> str:
    return f"{BRAIN}:visit:{digest}"


def episode_key(episode: str) -> str:
    return EPISODE_PREFIX + episode


def episodes_keys(domain: str = "") -> tuple[str, str]:
    """Of those that succeeded, of those that failed; without a domain, of all."""
    place = f"{BRAIN}:episodes:domain:{domain}" if domain else f"{BRAIN}:episodes"
    return f"{place}:succeeded", f"{place}:failed"


def brain_adopted_key() -> str:
    return f"{BRAIN}:adopted"


def old_skill_key(skill: str = "") -> str:
    """Of OrKa 0.9: one skill, or without an id the hash of all."""
    return f"orka:brain:skill:{skill}" if skill else "orka:brain:skill_index"


def old_episode_key(episode: str = "") -> str:
    """Of OrKa 0.9: one episode, or without an id the hash of all."""
    return f"orka:brain:episode:{episode}" if episode else "orka:brain:episode:index"
