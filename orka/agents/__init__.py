"""Agents: the open set of what a visit may call, one file per family, and the registry that names them."""
