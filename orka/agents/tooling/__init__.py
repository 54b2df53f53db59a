"""Tools of agents that ask a model: functions and MCP servers, what a model is told of them, and the rounds of calling them."""
