"""What an MCP server's tool gave, as the text that the model is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from orka.agents.tooling.base import KEY
from orka.types import Json

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock


def told(result: CallToolResult) -> str:
    """Texts, one after the other; the structured value where there are none. What is no text is named."""
    text = "\n".join(_text(block) for block in result.content)
    if not text and result.structured_content is not None:
        return msgspec.json.encode(result.structured_content).decode()
    return text


def without_key(schema: Mapping[str, Json]) -> tuple[Mapping[str, Json], bool]:
    """A JSON Schema of arguments without `idempotency_key`, and whether it had one."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or KEY not in properties:
        return schema, False
    kept: dict[str, Json] = {name: rule for name, rule in properties.items() if name != KEY}
    required = schema.get("required")
    names: Iterable[Json] = required if isinstance(required, list) else ()
    return {**schema, "properties": kept, "required": [name for name in names if name != KEY]}, True


def _text(block: ContentBlock) -> str:
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            return f"[{block.type} of type {block.mime_type}, which is not shown]"
        case "resource_link":
            return f"[{block.name}: {block.uri}]"
        case "resource":
            text = getattr(block.resource, "text", None)
            return text if isinstance(text, str) else f"[{block.resource.uri}, which is not shown]"
