"""Triton kernels, one module per operator of `clipvg.ops`; installed as `clipvg.kernels`.

Imported by `clipvg.ops` alone, and only where Triton is: a module here imports nothing else of
clipvg.
"""
