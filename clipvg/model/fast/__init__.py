"""Faster ways to compute what the model defines: same results up to rounding.

`towers`: the image tower block by block, texts without padding. `fusion`: the fusion encoder
without padding, of several models side by side. `tokens`: what goes into it.
"""
