"""Faster steps: eager optimizers, CUDA graphs, mixed precision."""
