"""Checks memory and time on the first batch, before an epoch is paid for."""
