"""What data there is: one TOML a data set, and the built-in data set itself. Flat: no subfolders."""
