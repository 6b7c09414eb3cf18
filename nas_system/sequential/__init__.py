"""Sequence models: `(batch, seq_len, inputs) -> (batch, pred_len, targets)`. One file per family."""
