"""One file a perceptor; the file's name is the perceptor's name on the command line."""
