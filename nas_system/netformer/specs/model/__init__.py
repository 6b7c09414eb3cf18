"""The networks that write and rank configurations: vocabulary, grammar, training, the saved model."""
