"""Parts that two or more sequence families share, or that are large enough to stand alone."""
