"""The limits of a run, `deadline` and `max_steps`: what counts, and how a run that ended at one goes on."""

from support.running import graph, opened, said

from orka.orchestrator import Orchestrator
from orka.results import RunResult
from orka.settings import Settings
from orka.types import RunStatus

SLOW = """
    orchestrator: {id: t, agents: [first, slow]%s}
    agents:
      - {id: first, type: echo, prompt: F}
      - {id: slow, type: echo, delay: 0.6, prompt: done}
    """
CYCLE = """
    orchestrator: {id: t, agents: [a, gate, b]%s}
    agents:
      - {id: a, type: template, prompt: "{{ previous_outputs.a.response }}x"}
      - {id: gate, type: router, decision_key: a, routing_map: {xxxxxxxxxx: []}, fallback_route: [a, gate]}
      - {id: b, type: template, prompt: end}
    """


def why(result: RunResult) -> tuple[RunStatus, str, str]:
    assert result.error is not None
    return result.status, result.error.kind, result.error.message


async def test_the_deadline_of_a_changed_graph_counts_from_the_resumption_and_stays(redis_settings: Settings) -> None:
    over = (RunStatus.FAILED, "RunTimeout", "the run's deadline of 0.2 s has passed")
    async with opened(redis_settings, SLOW % ", deadline: 0.2") as first:
        result = await first.execute("x")
        assert why(result) == over
        before = (await first.runs.info(result.run_id)).deadline_ms
        assert why(await first.finish(result.run_id)) == over  # it has passed, whoever resumes the run
        assert (await first.runs.info(result.run_id)).deadline_ms == before
    async with opened(redis_settings, SLOW % ", deadline: 0.3") as second:
        again = await second.finish(result.run_id, changed_graph=True)
        assert why(again) == (RunStatus.FAILED, "RunTimeout", "the run's deadline of 0.3 s has passed")
        after = (await second.runs.info(result.run_id)).deadline_ms
        assert before is not None
        assert after is not None
        assert after > before
        plain = await second.finish(result.run_id)  # the stored graph and deadline are the changed ones
        assert why(plain) == (RunStatus.FAILED, "RunTimeout", "the run's deadline of 0.3 s has passed")
        assert (await second.runs.info(result.run_id)).deadline_ms == after
    async with opened(redis_settings, SLOW % ", deadline: 50") as third:
        done = await third.finish(result.run_id, changed_graph=True)
        assert (done.status, done.output, said(done, "first")) == (RunStatus.COMPLETED, "done", "F")


async def test_a_changed_graph_without_a_deadline_takes_it_away(redis_settings: Settings) -> None:
    async with opened(redis_settings, SLOW % ", deadline: 0.1") as orchestrator:
        result = await orchestrator.execute("x")
        assert result.status is RunStatus.FAILED
    async with Orchestrator(graph(SLOW % ""), settings=redis_settings) as orchestrator:
        assert (await orchestrator.finish(result.run_id, changed_graph=True)).output == "done"
        assert (await orchestrator.runs.info(result.run_id)).deadline_ms is None


MANY = """
    orchestrator: {id: t, agents: [m], max_steps: 7}
    agents:
      - {id: m, type: map, items: "range(%s)", agents: [a, f, j, inner]}
      - {id: a, type: template, prompt: "{{ item }}"}
      - {id: f, type: fork, targets: [b, c]}
      - {id: b, type: template, prompt: "{{ item }}b"}
      - {id: c, type: template, prompt: "{{ item }}c"}
      - {id: j, type: join, group: f}
      - {id: inner, type: map, items: "range(30)", as: other, agents: [d]}
      - {id: d, type: template, prompt: "{{ item }}-{{ other }}"}
    """


async def test_each_item_of_a_map_has_the_limit_of_steps_for_itself(redis_settings: Settings) -> None:
    async with opened(redis_settings, MANY % 50) as orchestrator:
        result = await orchestrator.execute("x")
    assert (result.status, result.output) == (RunStatus.COMPLETED, [f"{n}-29" for n in range(50)])
    async with opened(redis_settings, MANY.replace("max_steps: 7", "max_steps: 5") % 2) as orchestrator:
        result = await orchestrator.execute("x")  # an item's fork counts with it
    status, kind, message = why(result)
    assert (status, kind) == (RunStatus.FAILED, "StepsExceeded")
    assert "took more than 5 steps in one item of a map, at 'm." in message


async def test_a_routing_cycle_in_an_item_of_a_map_ends(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [m, end], max_steps: 100}
        agents:
          - {id: m, type: map, items: "range(3)", agents: [a, gate]}
          - {id: a, type: template, prompt: again}
          - {id: gate, type: router, decision_key: a, routing_map: {again: [a, gate]}}
          - {id: end, type: template, prompt: end}
        """
    result = await opened(redis_settings, text).execute("x")
    status, kind, message = why(result)
    assert (status, kind) == (RunStatus.FAILED, "StepsExceeded")
    assert f"run {result.run_id} took more than 100 steps in one item of a map, at 'm." in message


async def test_a_run_that_took_too_many_steps_goes_on_with_a_larger_limit(redis_settings: Settings) -> None:
    async with opened(redis_settings, CYCLE % ", max_steps: 9") as orchestrator:
        result = await orchestrator.execute("x")
        message = (
            f"run {result.run_id} took more than 9 steps; if that is not a routing cycle, raise `max_steps`"
            " under `orchestrator:`"
        )
        assert why(result) == (RunStatus.FAILED, "StepsExceeded", message)
        assert why(await orchestrator.finish(result.run_id)) == why(result)
    async with opened(redis_settings, CYCLE % "") as orchestrator:
        assert (await orchestrator.finish(result.run_id, changed_graph=True)).output == "end"
