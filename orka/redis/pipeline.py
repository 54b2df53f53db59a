"""`Pipe`: many callers' commands in one round trip, over connections of its own.

One connection per Redis node, used by one round trip at a time unless told otherwise, so that commands of one key arrive in the
order in which they were given. Replies are raw; an error reply is returned in place, not raised. A lost connection raises
`StoreError`: whoever sent the commands decides whether sending them again is harmless.

On a cluster slots move (https://valkey.io/topics/cluster-spec/#live-reconfiguration). What has moved, or moves with its only
key, is followed. Scripts wait: while the keys of a slot are partly here and partly there, a script that comes to a key
which is not here fails in the middle, with what it has written before left standing. So each names one key more, which is
never there, and the server refuses it (TRYAGAIN) before it begins; `is_moving` tells such replies to whoever waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, cast

import anyio
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoPermissionError, RedisError, ResponseError

from orka.errors import StoreError
from orka.redis.brain_scripts import BRAIN_SCRIPTS
from orka.redis.faults import translate
from orka.redis.keys import moving_key
from orka.redis.lease_scripts import LEASE_SCRIPTS
from orka.redis.limit_scripts import LIMIT_SCRIPTS
from orka.redis.loop_scripts import LOOP_SCRIPTS
from orka.redis.lua import Command
from orka.redis.mark import ServerMark, parse_mark
from orka.redis.memory_scripts import MEMORY_SCRIPTS
from orka.redis.recovery_scripts import RECOVERY_SCRIPTS
from orka.redis.return_scripts import RETURN_SCRIPTS
from orka.redis.scripts import SCRIPTS
from orka.redis.task_scripts import TASK_SCRIPTS
from orka.redis.url import node_name
from orka.redis.wire import Connection, Wire, exchange

_HOPS = 3
"""Times that a reply which names another node is followed."""
_MOVING = frozenset({"MovedError", "AskError", "TryAgainError"})

Keyed: TypeAlias = tuple[str, Command]
"""A command and one of its keys, which says where it goes in a cluster."""


_SCRIPTS = (
    *SCRIPTS,
    *LEASE_SCRIPTS,
    *TASK_SCRIPTS,
    *RECOVERY_SCRIPTS,
    *RETURN_SCRIPTS,
    *LIMIT_SCRIPTS,
    *LOOP_SCRIPTS,
    *BRAIN_SCRIPTS,
    *MEMORY_SCRIPTS,
)
_LOAD: Final[Sequence[Command]] = tuple(("SCRIPT", "LOAD", script.text) for script in _SCRIPTS)


class ConnectionLost(StoreError):
    """Some of the commands sent may have been executed, and some not."""


class ServerChanged(StoreError):
    """A node is another server process than before, which may have lost the last second. It was sent nothing yet."""

    def __init__(self, message: str, *, uptime: int) -> None:
        super().__init__(message)
        self.uptime = uptime
        """Seconds that it has been up."""


class Router(Protocol):
    """Where the commands of a slot go; `orka.redis.client` makes one."""

    @property
    def cluster(self) -> bool: ...

    def node_of(self, slot: int) -> str:
        """Name of the primary that holds `slot` (0 to 16383; always the same name on a single server)."""
        ...

    def connection(self, node: str) -> Connection:
        """A new connection, not yet connected, without a socket timeout."""
        ...

    async def refresh(self) -> None:
        """Asks the cluster again who holds what."""
        ...

    def learn(self, slot: int, node: str) -> None:
        """A node has said who holds a slot."""
        ...


class Pipe:
    """Owned by one task group; `aclose` when done. Safe to use from several tasks: round trips take turns.

    `watchful`: a round trip that meets another server process than before raises `ServerChanged`, once. `at_once`: round
    trips under way together, so that the server finds the next commands when it has done those before. Then two that name
    one key are ordered by whoever sends them (a reply may say that the first has to be sent elsewhere).
    """

    def __init__(self, router: Router, *, watchful: bool = False, at_once: int = 1) -> None:
        self._router = router
        self._watchful = watchful
        self._marks: dict[str, str] = {}
        """By node, the server process that was met there last."""
        self._wires: dict[str, Wire] = {}
        """By node."""
        self._turns = anyio.Semaphore(
            at_once, fast_acquire=True
        )  # free in the journal's pipe: no turn of the loop for it
        self.round_trips = 0
        """Round trips since the start, all nodes together."""

    async def roundtrip(self, commands: Sequence[Keyed]) -> list[Any]:
        """Sends all commands, each node's in one write, and gives the replies in the order of the commands.

        Error replies are `ResponseError` values. Raises `ConnectionLost` when a connection is lost: some commands may have
        been executed. Cancelling closes the connections in use, because their replies are still on the way.
        """
        async with self._turns:
            if self._router.cluster:
                commands = [_guarded(key, command) for key, command in commands]
            replies = await self._send(commands)
            for _ in range(_HOPS):
                again = [i for i, reply in enumerate(replies) if _node_named(reply)]
                if not again:
                    break
                await self._follow(commands, replies, again)
            return replies

    async def _follow(self, commands: Sequence[Keyed], replies: list[Any], again: Sequence[int]) -> None:
        """Sends some of the commands to the nodes that their replies name, and puts the new replies in their places."""
        if any(isinstance(replies[i], MovedError) for i in again):
            await self._router.refresh()
            for i in again:  # the node that was asked may not have heard of it yet
                if isinstance(reply := replies[i], MovedError):
                    self._router.learn(reply.slot_id, _node_named(reply))
        moved = [i for i in again if isinstance(replies[i], MovedError)]
        asked = [i for i in again if i not in moved]
        if moved:
            for i, reply in zip(moved, await self._send([commands[i] for i in moved]), strict=True):
                replies[i] = reply
        for i in asked:  # one by one: there are few, and each is for one command alone
            replies[i] = (await self._exchange(_node_named(replies[i]), [("ASKING",), commands[i][1]]))[-1]

    async def aclose(self) -> None:
        wires, self._wires = self._wires, {}
        with anyio.CancelScope(shield=True):
            for wire in wires.values():
                await wire.aclose()

    def abort(self) -> None:
        """Breaks a round trip that never ends (a server that is stopped, a network that swallows packets): it raises
        `StoreError`. Harmless when none is under way."""
        for wire in self._wires.values():
            wire.abort()

    async def _send(self, commands: Sequence[Keyed]) -> list[Any]:
        places: dict[str, list[int]] = {}
        for i, (key, _) in enumerate(commands):
            places.setdefault(self._router.node_of(key_slot(key.encode())), []).append(i)
        if len(places) == 1:
            return await self._exchange(next(iter(places)), [command for _, command in commands])
        replies: list[Any] = [None] * len(commands)
        failures: list[StoreError] = []

        async def one(node: str, indexes: list[int]) -> None:
            try:
                answers = await self._exchange(node, [commands[i][1] for i in indexes])
            except StoreError as exc:
                failures.append(exc)
                return
            for i, answer in zip(indexes, answers, strict=True):
                replies[i] = answer

        async with anyio.create_task_group() as group:
            for node, indexes in places.items():
                group.start_soon(one, node, indexes)
        if failures:
            raise next((failure for failure in failures if isinstance(failure, ServerChanged)), failures[0])
        return replies

    async def _exchange(self, node: str, commands: list[Command]) -> list[Any]:
        wire = self._wires.get(node)
        if wire is None or wire.closed:  # known before it works, so that `abort` reaches it
            wire = self._wires[node] = Wire(self._router.connection(node), partial(self._prepare, node))
        try:
            replies = await wire.exchange(commands)
            self.round_trips += 1
            missing = [i for i, reply in enumerate(replies) if isinstance(reply, ResponseError) and _no_script(reply)]
            if missing:  # the server was flushed or failed over since the scripts were loaded; nothing was executed
                _check_loaded(await wire.exchange(_LOAD))
                for i, reply in zip(missing, await wire.exchange([commands[i] for i in missing]), strict=True):
                    replies[i] = reply
            return replies
        except (RedisError, OSError) as exc:  # error replies to the commands are values: this one met the connecting
            raise ConnectionLost(str(translate(exc, node))) from exc

    async def _prepare(self, node: str, connection: Connection) -> None:
        await connection.connect()
        mark = await _load_scripts(connection)
        if self._watchful and mark.run_id:
            # A node that is met for the first time after others may be a replica that has taken over from one of them.
            changed = bool(self._marks) and self._marks.get(node) != mark.run_id
            self._marks[node] = mark.run_id
            if changed:
                raise ServerChanged(f"Redis ({node}) has been started again since", uptime=mark.uptime)


async def _load_scripts(connection: Connection) -> ServerMark:
    facts, *replies = await exchange(connection, [("INFO", "server"), *_LOAD])
    # Who may only read needs none of them; what needs one is refused when it is sent.
    _check_loaded([reply for reply in replies if not isinstance(reply, NoPermissionError)])
    return parse_mark(facts)


def _check_loaded(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise StoreError(f"Redis refuses Orka's scripts: {reply}") from reply


def _no_script(error: ResponseError) -> bool:
    return type(error).__name__ == "NoScriptError" or str(error).startswith("NOSCRIPT")


def is_moving(reply: object) -> bool:
    """An error reply that passes when a slot has moved: the same command may be sent again."""
    return isinstance(reply, ResponseError) and type(reply).__name__ in _MOVING


def _node_named(reply: object) -> str:
    """That an error reply sends the command to; empty: none."""
    if not isinstance(reply, AskError):
        return ""
    host, port = cast("tuple[str, int]", reply.node_addr)
    return node_name(host, port) if host else ""


def _guarded(key: str, command: Command) -> Keyed:
    """A script with the key that is never there. One of a single key without a hash tag needs none: the server redirects it
    as any command."""
    if command[0] != "EVALSHA" or "}" not in key:
        return key, command
    behind = 3 + int(command[2])
    tag = key[: key.index("}") + 1]
    return key, (*command[:2], behind - 2, *command[3:behind], moving_key(tag), *command[behind:])
