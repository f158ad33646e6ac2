"""The extraction job: items through perceptors into stores, a shard at a time."""
