"""Supervises trainings as processes: limits, sandbox, process tree, locks, logs."""
