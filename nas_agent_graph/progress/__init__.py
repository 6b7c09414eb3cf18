"""Reports progress while a search runs: plain lines, or a live display."""
