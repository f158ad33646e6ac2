"""What `mgx select` can print. A format is one file with `write(overview, stream)`, found by its name."""

from mgx.shared.registry import Registry

FORMATS = Registry("format", "mgx.select.formats", "write", "mgx.formats")
