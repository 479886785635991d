"""Parts of the rescoring benchmark; `benchmarks/rescoring.py` is its command."""
