"""Engines: where units of work are done, one file each."""
