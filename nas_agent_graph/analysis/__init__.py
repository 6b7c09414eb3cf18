"""What a search has learned about itself: lessons, calibration of predictions, stagnation."""
