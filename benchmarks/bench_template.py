"""Microseconds per rendering of three typical templates, beside plain Jinja2 in the same run. Prints one JSON line.

Run: python benchmarks/bench_template.py
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import jinja2

from orka.template.environment import Environment
from orka.template.view import View

WINDOWS = 7
RENDERS = 20_000
TEMPLATES = {
    "short": "Step {{ previous_outputs.a.response }} of {{ input }}",
    "prompt": (
        "Topic: {{ input }}\n{% if previous_outputs.a.score > 0.5 %}Good: {{ previous_outputs.a.response }}"
        "{% else %}Weak: {{ previous_outputs.b.response }}{% endif %}\n"
        "Score {{ previous_outputs.a.score | round(2) }}\n"
    ),
    "list": (
        "{% for item in previous_outputs.c.found %}{{ loop.index }}. {{ item.title }}: {{ item.url }}\n{% endfor %}"
    ),
}
OUTPUTS = {
    "a": {"response": "an answer of one sentence", "score": 0.8123, "_metrics": {"tokens": 12}},
    "b": {"response": "another one"},
    "c": {"found": [{"title": f"Title {n}", "url": f"https://example.org/{n}"} for n in range(10)]},
}


def microseconds(render: Callable[[], str]) -> float:
    """Median over the windows of the mean time of one call."""
    times: list[float] = []
    for _ in range(WINDOWS):
        start = time.perf_counter()
        for _ in range(RENDERS // WINDOWS):
            render()
        times.append((time.perf_counter() - start) / (RENDERS // WINDOWS) * 1e6)
    return round(statistics.median(times), 2)


def main() -> None:
    ours, plain = Environment(), jinja2.Environment()
    view = View(input="the topic of the run", outputs=OUTPUTS)
    names = {"input": view.input, "previous_outputs": OUTPUTS}
    figures: dict[str, dict[str, float]] = {}
    for name, source in TEMPLATES.items():
        template, rival = ours.compile(source), plain.from_string(source)
        if template.render(view) != rival.render(names):
            raise SystemExit(f"{name}: the two renderings differ")
        figures[name] = {
            "orka_us": microseconds(lambda template=template: template.render(view)),
            "jinja2_us": microseconds(lambda rival=rival: rival.render(names)),
        }
    print(
        json.dumps(
            {
                "benchmark": "template",
                "templates": figures,
                "n": RENDERS,
                "machine": f"{platform.machine()} x{os.cpu_count()}",
                "versions": {"python": platform.python_version(), "jinja2": version("jinja2")},
            }
        )
    )


if __name__ == "__main__":
    main()
