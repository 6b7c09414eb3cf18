"""The training engine: knows batches, objectives and epochs; no model and no data set."""
