"""Memories: written in batches, found again by meaning, words, filters and time. Two backends, one behaviour."""
