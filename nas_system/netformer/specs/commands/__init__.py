"""The commands of spec mode: archive, fit and propose."""
