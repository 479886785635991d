"""Observe images with models of Hugging Face transformers, as `clipvg observe` does."""
