"""Weights of perceptors: found, fetched, read and verified."""
