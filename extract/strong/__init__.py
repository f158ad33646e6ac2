"""Strong perceptors: encoders that learn from one modality alone."""
