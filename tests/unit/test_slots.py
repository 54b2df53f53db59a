"""How many tasks a worker executes at once, and how one of them runs alone."""

import anyio

from orka.dispatch.slots import Slot, Slots


async def park(slots: Slots, slot: Slot, over: anyio.Event) -> None:
    async with slot.parked():
        await over.wait()
    assert slots.used == 1
    slot.free()


async def test_a_task_that_runs_alone_leaves_no_slot_for_new_ones() -> None:
    slots = Slots(4)
    other = slots.take()
    alone = slots.take(alone=True)
    assert slots.free == 0
    other.free()
    assert (slots.used, slots.free) == (1, 0)
    alone.free()
    assert slots.free == 4


async def test_a_task_that_runs_alone_lets_others_in_while_it_waits_for_its_branches() -> None:
    """Else one worker could not execute them, and both would wait for ever."""
    slots = Slots(1)
    over = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(park, slots, slots.take(alone=True), over)
        await anyio.wait_all_tasks_blocked()
        assert (slots.free, slots.parked) == (1, 1)
        slots.take().free()
        over.set()
    assert (slots.used, slots.free, slots.parked) == (0, 1, 0)


async def test_of_two_tasks_that_run_alone_one_waits_for_the_other() -> None:
    """The first one waits for its branches; the second is one of them, and has died before as well."""
    slots = Slots(4)
    over = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(park, slots, slots.take(alone=True), over)
        await anyio.wait_all_tasks_blocked()
        second = slots.take(alone=True)
        over.set()
        await anyio.wait_all_tasks_blocked()
        assert (slots.used, slots.free) == (1, 0)
        second.free()
    assert (slots.used, slots.free) == (0, 4)
