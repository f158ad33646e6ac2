"""Media files to arrays: what all perceptors share, before each one's own preprocessing."""
