"""`strict`: warnings are errors when a file is loaded, undefined names are errors when it runs, also after a resume."""

from pathlib import Path

import pytest
from support.running import at, graph

from orka.errors import AgentError, GraphError
from orka.orchestrator import Orchestrator, finish
from orka.settings import Settings

UNDEFINED = """
orchestrator: {id: strict, agents: [first, gone]}
agents:
  - {id: first, type: echo}
  - {id: gone, type: template, on_error: stop, prompt: "x {{ input.nothing.deeper }}"}
"""


async def test_undefined_names_fail_a_visit_of_a_strict_orchestrator(tmp_path: Path, redis_settings: Settings) -> None:
    file = tmp_path / "strict.yml"
    file.write_text(UNDEFINED)
    assert (await Orchestrator(file, settings=redis_settings).run({})).startswith("x")
    for source in (file, graph(UNDEFINED)):
        orchestrator = Orchestrator(source, settings=redis_settings, strict=True)
        result = await orchestrator.execute({})
        assert at(result, "gone").error.kind == "TemplateError"  # type: ignore[union-attr]
        with pytest.raises(AgentError, match="input"):
            await orchestrator.run({})
        # The stored graph is the strict one: who resumes need not say it again.
        again = await finish(result.run_id, settings=redis_settings)
        assert at(again, "gone").error.kind == "TemplateError"  # type: ignore[union-attr]


def test_a_strict_orchestrator_refuses_a_file_with_warnings(tmp_path: Path) -> None:
    file = tmp_path / "odd.yml"
    file.write_text("orchestrator: {id: odd, agents: [a]}\nagents:\n  - {id: a, type: template, promt: hello}\n")
    assert len(Orchestrator(file).warnings) == 1
    with pytest.raises(GraphError, match=r"odd\.yml:3:\d+: error: .*promt") as caught:
        Orchestrator(file, strict=True)
    assert len(caught.value.diagnostics) == 1
