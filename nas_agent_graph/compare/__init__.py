"""Several proposers on one task: a search each with the same seeds and budget, and one table at the end."""
