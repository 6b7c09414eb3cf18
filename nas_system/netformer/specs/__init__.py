"""Spec mode: learns from an archive of trainings which configuration to propose for a data set."""
