"""Asking language models: what is asked and answered, and the clients that carry it. No agent lives here."""
