"""Optional doors out of the project; each is imported only when asked for."""
