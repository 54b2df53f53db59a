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


async def wait_in(slot: Slot, over: anyio.Event) -> None:
    async with slot.parked():
        await over.wait()


async def test_a_task_has_no_slot_while_one_of_its_sequences_waits() -> None:
    slots = Slots(1)
    slot, first, second, third = slots.take(), anyio.Event(), anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(wait_in, slot, first)
        group.start_soon(wait_in, slot, second)
        await anyio.wait_all_tasks_blocked()
        assert (slots.free, slots.parked) == (1, 1)
        first.set()
        await anyio.wait_all_tasks_blocked()
        assert (slots.free, slots.parked) == (1, 1)
        branch = slots.take()
        second.set()  # the last one asks for it again, and another waits before it comes
        await anyio.wait_all_tasks_blocked()
        group.start_soon(wait_in, slot, third)
        await anyio.wait_all_tasks_blocked()
        branch.free()
        await anyio.wait_all_tasks_blocked()
        assert (slots.used, slots.free, slots.parked) == (0, 1, 1)
        third.set()
    assert (slots.used, slots.parked) == (1, 0)
    slot.free()
    assert (slots.used, slots.free) == (0, 1)


async def test_two_sequences_that_return_at_once_take_one_slot() -> None:
    slots = Slots(1)
    slot, over = slots.take(), anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(wait_in, slot, over)
        await anyio.wait_all_tasks_blocked()
        branch = slots.take()
        over.set()
        await anyio.wait_all_tasks_blocked()
        again = anyio.Event()
        again.set()
        group.start_soon(wait_in, slot, again)
        await anyio.wait_all_tasks_blocked()
        branch.free()
    assert slots.used == 1


async def test_a_sequence_that_is_cut_off_while_it_fetches_the_slot_leaves_it_to_the_others() -> None:
    slots = Slots(1)
    slot, over = slots.take(), anyio.Event()
    async with anyio.create_task_group() as group:
        cut = anyio.CancelScope()

        async def cut_off() -> None:
            with cut:
                await wait_in(slot, over)

        group.start_soon(cut_off)
        await anyio.wait_all_tasks_blocked()
        branch = slots.take()
        over.set()
        await anyio.wait_all_tasks_blocked()
        group.start_soon(wait_in, slot, over)
        await anyio.wait_all_tasks_blocked()
        cut.cancel()
        await anyio.wait_all_tasks_blocked()
        branch.free()
    assert (slots.used, slots.parked) == (1, 0)
