"""Trained networks as sentences: a zoo, tokens with an exact way back, and a model that writes them."""
