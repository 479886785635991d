"""A matcher of regions and words, learned from the labels."""
