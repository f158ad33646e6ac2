"""What a data set consists of: manifest to items, and what of them is there."""
