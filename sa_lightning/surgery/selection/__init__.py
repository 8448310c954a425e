"""Which entries of a delta are kept.

The way: a `ranking` puts entries in order, `kth_largest` finds the cut, helped by a `bracket`, and `top_k` keeps what
is above it; or `dare` drops at random, `heads` keeps attention heads, `set_difference` what another selection does
not. A new one is a file and a row of the `table`.
"""
