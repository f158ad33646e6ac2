"""One file an algorithm; the file's name is the algorithm's name on the command line."""
