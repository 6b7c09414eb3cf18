"""Optional adapters to other projects; each is imported only when it is used."""
