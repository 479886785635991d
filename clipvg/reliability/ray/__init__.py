"""Scoring on a Ray cluster: the connection, the actors that score, and tables in Parquet."""
