"""Code shared by several measures; no measure is defined here."""
