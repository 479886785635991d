"""Measures of other scores: means, votes, cascades, mixtures."""
