"""Parts of `benchmarks/science.py`: data, trainings that are done once, experiments, statistics."""
