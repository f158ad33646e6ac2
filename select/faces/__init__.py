"""What `mgx select` can print. A face is one file with `write(overview, stream)`, found by its name."""

from mgx.shared.registry import Registry

FACES = Registry("format", "mgx.select.faces", "write", "mgx.faces")
