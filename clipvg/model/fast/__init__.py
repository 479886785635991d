"""Faster implementations of the model, with the same results up to rounding.

`towers`: the image tower block by block, texts without padding. `fusion`: the fusion encoder
without padding, for several models side by side. `tokens`: its input tokens.
"""
