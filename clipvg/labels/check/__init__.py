"""Checks of labels, one module for each family of findings."""
