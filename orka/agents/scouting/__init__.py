"""How a graph scout chooses: pure parts, one decision per file. The agent itself is `orka.agents.scout`."""
