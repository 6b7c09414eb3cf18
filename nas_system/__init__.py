"""Trains: knows no LLM and no graph of nodes."""
