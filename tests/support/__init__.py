"""Test helpers: tiny models and labels, learners worked out by hand, calls in processes."""
