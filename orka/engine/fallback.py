"""Whether a failover's child gave a valid result. Pure. Rules of workflow-format 8.4."""

from __future__ import annotations

import re
from typing import cast

from orka.engine.joining import seen_output
from orka.results import NodeResult
from orka.types import Json, Status

_FAILURE_WORDS = re.compile(
    r"\b(?:failed|failure|error|errors|rate ?limit(?:ed)?|ratelimit|timeout|timed out|unavailable|404|429|500|502|503)\b",
    re.IGNORECASE,
)


def is_valid(result: NodeResult) -> bool:
    """False for failures, empty results, `status: error`, an empty or `NONE` response, and texts that tell of a failure
    where the result is a plain text or list (what search tools give when they are down)."""
    if result.status is not Status.SUCCESS:
        return False
    output = result.output
    if isinstance(output, dict):
        return _valid_mapping(output)
    if not output and output is not False and output != 0:
        return False
    return not (isinstance(output, str | list) and _FAILURE_WORDS.search(str(output)))


def _valid_mapping(output: dict[str, Json]) -> bool:
    if not output or output.get("status") == "error":
        return False
    if "response" not in output:
        return True
    response = output["response"]
    if isinstance(response, dict) and "response" in response:
        response = response["response"]
    if isinstance(response, str):
        return response.strip() not in {"", "NONE"}
    return response is not None and response not in ([], {})


def merge_failover(child: NodeResult) -> dict[str, Json]:
    """The output of a failover: the child's envelope under `result` and its output under its id and as `response`."""
    output = seen_output(child.output, None, bare=child.bare)
    response = cast("dict[str, Json]", output).get("response", output) if isinstance(output, dict) else output
    envelope: dict[str, Json] = {
        "result": output,
        "response": response,  # where `get_agent_response` looks
        "status": str(child.status),
        "component_id": child.node_id,
    }
    return {
        "result": envelope,
        "successful_child": child.node_id,
        child.node_id: output,
        "response": response,
        "status": "success",
    }
