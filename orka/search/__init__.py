"""Searching the web or a folder of texts behind one protocol."""
