"""Which earlier outputs a template reads, as far as its source says."""

from __future__ import annotations

from jinja2 import nodes

OUTPUTS = "previous_outputs"

_BY_ID = frozenset({"get_agent_response", "get_fork_responses", "get_loop_output", "has_context", "safe_get_response"})
"""Functions whose first argument is a node id, dotted or not."""
_SEARCHING = frozenset(
    {
        "get_agent_memory_context",
        "get_collaborative_responses",
        "get_conservative_response",
        "get_debate_evolution",
        "get_execution_artifacts",
        "get_final_score",
        "get_loop_rounds",
        "get_loop_status",
        "get_my_past_decisions",
        "get_my_past_memory",
        "get_past_insights",
        "get_past_loop_data",
        "get_past_loops",
        "get_progressive_response",
        "get_purist_response",
        "get_realist_response",
        "get_round_info",
        "has_past_loops",
        "joined_results",
    }
)
"""Functions that look through all earlier outputs."""
_METHODS = frozenset({"get", "items", "keys", "values"})


def reads_of(tree: nodes.Template) -> tuple[frozenset[str], bool]:
    """(ids named as constants, whether other outputs are read too)."""
    ids: set[str] = set()
    explained: set[int] = set()
    searching = False
    for call in tree.find_all(nodes.Call):
        name = _called(call, explained)
        if name in _BY_ID or name == "get":
            found = _constant(call.args[0]) if call.args else None
            searching = searching or found is None
            ids.update(() if found is None else (found.split(".")[0] if name == "safe_get_response" else found,))
        elif name in _SEARCHING or name in _METHODS:
            searching = True
    for access in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if _is_outputs(access.node) and id(access.node) not in explained:
            explained.add(id(access.node))
            found = access.attr if isinstance(access, nodes.Getattr) else _constant(access.arg)
            searching = searching or found is None
            ids.update(() if found is None else (found,))
    bare = any(_is_outputs(name) and id(name) not in explained for name in tree.find_all(nodes.Name))
    return frozenset(ids), searching or bare


def _called(call: nodes.Call, explained: set[int]) -> str | None:
    """The function's name, or the method's when it is one of `previous_outputs` itself."""
    target = call.node
    if isinstance(target, nodes.Name):
        return target.name
    if isinstance(target, nodes.Getattr) and target.attr in _METHODS and _is_outputs(target.node):
        explained.add(id(target.node))
        return target.attr
    return None


def _constant(node: nodes.Node) -> str | None:
    return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else None


def _is_outputs(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == OUTPUTS
