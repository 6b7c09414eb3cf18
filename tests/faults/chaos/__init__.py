"""Whole searches as processes that are killed at random, and evidence that is not their own."""
