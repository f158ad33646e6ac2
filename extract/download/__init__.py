"""A data set's files from where they are published, verified, and only what is missing."""
