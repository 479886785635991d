"""Region-text matching with a network learned from the labels."""
