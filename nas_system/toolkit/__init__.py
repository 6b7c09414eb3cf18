"""Trainers, losses and metrics for work by hand, on top of the engine."""
