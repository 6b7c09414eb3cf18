"""Decides what to train next: no torch, no prompt text."""
