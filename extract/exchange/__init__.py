"""Embeddings from other programs, and for them."""
