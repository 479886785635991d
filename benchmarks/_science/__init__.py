"""Parts of `benchmarks/science.py`: data, cached trainings, experiments, statistics."""
