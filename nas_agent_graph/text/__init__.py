"""Text for people and prompts: tables, task labels, untrusted input."""
