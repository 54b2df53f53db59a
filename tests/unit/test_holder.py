"""The end of a process on this machine is waited for, not asked for."""

import subprocess
import sys

import anyio
import pytest

from orka.journal.holder import current_holder, is_dead, until_dead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc and pidfd_open(2)")


def holder_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        start = file.read().rpartition(")")[2].split()[19]
    return f"{current_holder().rsplit('/', 2)[0]}/{pid}/{start}"


def started() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


async def test_the_end_of_a_process_is_noticed_though_nobody_has_reaped_it() -> None:
    child = started()
    try:
        holder = holder_of(child.pid)
        assert not is_dead(holder)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(until_dead, holder)
                await anyio.sleep(0.05)
                child.kill()
        assert is_dead(holder)
    finally:
        child.kill()
        child.wait()
    with anyio.fail_after(1):
        await until_dead(holder)  # gone and reaped


async def test_a_process_elsewhere_and_one_that_lives_are_waited_for_until_cancelled() -> None:
    for holder in ("", "elsewhere/boot/pid:[1]/1/5", current_holder()):
        with anyio.move_on_after(0.05) as scope:
            await until_dead(holder)
        assert scope.cancelled_caught, holder


async def test_a_later_process_of_the_same_pid_is_not_waited_for() -> None:
    with anyio.fail_after(1):
        await until_dead(f"{current_holder().rpartition('/')[0]}/1")
