"""What is fitted, as one directory.

The `artifact` with its `part`s, its model `card`, and the `fingerprint` of the weights that it belongs to.
"""
