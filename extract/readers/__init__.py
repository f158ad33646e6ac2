"""One file a reader: how the items of a data set are found. The name is that of `items.reader` in a manifest."""
