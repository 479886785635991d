"""Measures that fuse other scores: means, votes, cascades, mixtures."""
