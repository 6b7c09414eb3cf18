"""Trained forecasters as files that other programs run."""
