"""Many measurements of one model.

A `bench` loads it once, and measures it under one combination of `settings` after another.
"""
