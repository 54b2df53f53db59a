"""Redis: the private server, connections, key names, scripts, and many commands in one round trip."""
