"""CLIP on regions of an image."""
