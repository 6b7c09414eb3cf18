"""Spec mode: learn from an archive of trainings which configurations to propose for a data set."""
