"""Templates and expressions of graph files: sandboxed Jinja, compiled once, rendered against a `View`."""
