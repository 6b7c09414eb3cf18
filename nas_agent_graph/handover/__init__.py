"""What a search hands over once it has ended: chosen, trained again on later rows, and scored."""
