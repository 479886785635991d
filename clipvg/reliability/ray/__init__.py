"""Scoring on the machines of a Ray cluster: the cluster, actors that score, tables of Parquet."""
