"""Networks of frozen encoders: weights in, vectors out."""
