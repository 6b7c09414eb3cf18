"""From a model's text to the JSON objects that are meant in it."""
