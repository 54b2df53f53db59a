"""The interpreter: `executor` walks a graph, the pure decisions (routing, joining, looping, retry) each in its own file."""
