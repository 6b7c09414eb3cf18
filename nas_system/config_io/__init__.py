"""Reads and writes the formats of a configuration file."""
