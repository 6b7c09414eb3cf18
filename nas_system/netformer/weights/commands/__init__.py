"""The commands of weights mode: zoo, train, eval and sample."""
