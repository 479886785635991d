"""Reproduce the paper's tables from the data and checkpoints at hand, beside published results."""
