"""Trainings to learn from: the archive file, how one is made, and the user's own searches as its rows."""
