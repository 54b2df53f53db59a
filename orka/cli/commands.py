"""Every command by name, where it lives, and its line in `orka --help`. Plain data: listing commands imports none."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One command. `name` is one word, or a group and a word."""

    name: str
    target: str
    """`module:function`, imported when the command runs."""
    summary: str


COMMANDS: tuple[Command, ...] = (
    Command("run", "orka.cli.run:run", "Run a graph on an input and print its answer."),
    Command("resume", "orka.cli.run:resume", "Finish a run that was interrupted, without repeating what is done."),
    Command("check", "orka.cli.check:check", "Report every fault of graph files, without running them."),
    Command("validate", "orka.cli.check:check", "The same as check."),
    Command(
        "import-check", "orka.cli.import_check:import_check", "Tell which OrKa 0.9 files of a folder run, and how."
    ),
    Command("schema", "orka.cli.check:schema", "Print the JSON Schema of the graph format, for editors."),
    Command("worker", "orka.cli.worker:worker", "Execute branches and submitted runs of shared queues."),
    Command("submit", "orka.cli.submit:submit", "Put a run on a queue for a worker, and print its id."),
    Command("cancel", "orka.cli.submit:cancel", "End a run wherever it is executed."),
    Command("doctor", "orka.cli.doctor:doctor", "Tell why a run does not move, and what to do."),
    Command("workers", "orka.cli.workers:workers", "List the workers, their load and their last signs of life."),
    Command("runs list", "orka.cli.runs:list_runs", "List runs, newest first."),
    Command("runs show", "orka.cli.runs:show", "Show one run and its visits."),
    Command("runs events", "orka.cli.runs:events", "Print a run's events, and follow them with --follow."),
    Command("runs trace", "orka.cli.runs:trace", "Print the trace of a completed run, or write it to a file."),
    Command("dead list", "orka.cli.dead:list_letters", "List tasks that took their workers down too often."),
    Command("dead show", "orka.cli.dead:show", "Show one of them whole."),
    Command("dead retry", "orka.cli.dead:retry", "Have a worker resume its run, and try it again."),
    Command("dead drop", "orka.cli.dead:drop", "Delete it; its run stays as it is."),
    Command("memory search", "orka.cli.memory:search", "Find memories by meaning and by words."),
    Command("memory list", "orka.cli.memory:list_memories", "List memories, newest first."),
    Command("memory show", "orka.cli.memory:show", "Show memories whole."),
    Command("memory delete", "orka.cli.memory:delete", "Delete memories."),
    Command("memory stats", "orka.cli.memory:stats", "Count memories by kind."),
    Command("memory cleanup", "orka.cli.memory:cleanup", "Delete what has expired and is still there."),
    Command("memory watch", "orka.cli.memory:watch", "Print memories as they are written."),
    Command("memory export", "orka.cli.transfer:export", "Write memories to a file."),
    Command("memory import", "orka.cli.transfer:import_", "Store the memories of a file."),
    Command("memory reindex", "orka.cli.transfer:reindex", "Index memories anew while the old index serves."),
    Command("brain list", "orka.cli.brain:list_skills", "List skills that runs have learned."),
    Command("brain show", "orka.cli.brain:show", "Show one skill whole."),
    Command("brain stats", "orka.cli.brain:stats", "Count skills and episodes."),
    Command("brain cleanup", "orka.cli.brain:cleanup", "Tidy up after skills that have expired."),
    Command("system status", "orka.cli.system:status", "Tell which server is used and whether it answers."),
    Command("system stop", "orka.cli.system:stop", "Stop the private server."),
)

GROUPS: dict[str, str] = {
    "runs": "Look at runs: what they were given, where they stand, what happened.",
    "dead": "Tasks that were given up because they took their workers down.",
    "memory": "Look at memories, move them, tidy up.",
    "brain": "Look at what runs have learned.",
    "system": "Look at and stop the private server.",
}


def root_help() -> str:
    """What `orka --help` prints. Written here because the argument parser alone takes 100 ms to import."""
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS]
    return "\n".join(
        [
            "Usage: orka [OPTIONS] COMMAND ...",
            "",
            "Run YAML graphs of agents, durably, on Redis.",
            "",
            "Commands:",
            *lines,
            "",
            "Options:",
            "  -v, --verbose   Print what happens on standard error, and tracebacks of errors.",
            "  --json          Print JSON instead of text (where a command has it).",
            "  --json-input    The input of run or submit is JSON, inline or in a file.",
            "  -V, --version   Print the version.",
            "  -h, --help      Print this help; after a command, the help of that command.",
            "",
            "Exit codes and examples: docs/cli.md",
        ]
    )
