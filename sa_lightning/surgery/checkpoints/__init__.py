"""Weights on disk and in memory, read and written some rows at a time.

The way: `slices` cut a tensor, `weights` are what this room asks of any source; a `checkpoint` of several `shard`s is
one, an `adapter` over it another, and `opening` finds which. `streaming` works on many slices in order, and
`partial_output` appears when it is complete.
"""
