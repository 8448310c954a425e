"""What is fitted, as one directory: the `artifact` with its `part`s, its model `card`, the `fingerprint` of weights."""
