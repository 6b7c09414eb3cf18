"""Decides what to train next: no torch, no prompt text."""

__version__ = "0.1.0"
