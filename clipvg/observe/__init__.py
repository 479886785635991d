"""Observations of images by models of Hugging Face transformers: what `clipvg observe` runs."""
