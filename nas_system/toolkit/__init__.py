"""Trainers, losses and metrics for interactive use, on top of the engine."""
