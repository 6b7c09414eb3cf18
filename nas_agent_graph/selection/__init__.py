"""Which configuration a search may say is best: means over seeds, their noise, and who gets another seed.

Pure functions of numbers: nothing here reads a file or knows another package. Scores are losses, lower is
better.
"""
