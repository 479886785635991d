"""Grounders that were not trained here."""
