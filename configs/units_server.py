"""An MCP server with two tools, which configs/tools_mcp.yml starts. It needs the library `mcp`: pip install 'orka[mcp]'."""

from typing import Literal

from mcp.server.mcpserver import MCPServer

Unit = Literal["km", "mile", "m", "foot", "kg", "pound", "celsius", "fahrenheit"]

FACTORS = {"km": 1000.0, "mile": 1609.344, "m": 1.0, "foot": 0.3048, "kg": 1.0, "pound": 0.45359237}
KINDS = [{"km", "mile", "m", "foot"}, {"kg", "pound"}, {"celsius", "fahrenheit"}]

server = MCPServer("units")


@server.tool()
def convert(value: float, source: Unit, target: Unit) -> str:
    """Converts a value from one unit to another of the same kind."""
    if not any({source, target} <= kind for kind in KINDS):
        return f"{source} and {target} are not of the same kind"
    if source == target:
        result = value
    elif source == "celsius":
        result = value * 9 / 5 + 32
    elif source == "fahrenheit":
        result = (value - 32) * 5 / 9
    else:
        result = value * FACTORS[source] / FACTORS[target]
    return f"{result:.6g} {target}"


@server.tool()
def units() -> list[str]:
    """The units that are known."""
    return sorted(unit for kind in KINDS for unit in kind)


if __name__ == "__main__":
    server.run()
