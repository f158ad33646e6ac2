"""One file a baseline: what a learner has to beat, or cannot."""
