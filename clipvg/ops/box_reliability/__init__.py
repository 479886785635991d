"""Reliability of boxes, and its histogram."""
