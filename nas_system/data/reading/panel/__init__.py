"""Several series in one file: which row is whose, which rows are of the future, and what all must share."""
