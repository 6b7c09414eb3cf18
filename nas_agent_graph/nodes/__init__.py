"""The seven verbs of the search. One node, one file; each returns only what it changed."""
