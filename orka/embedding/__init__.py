"""Texts to vectors: the `Embedder` protocol and the model that runs on this machine."""
