"""What the built-in perceptor `litebind` is made of."""
