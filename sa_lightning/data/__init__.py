"""Data sets of the field: one row a benchmark.

`table` has the rows: licence, source, files, hashes. `registry` finds them on disk or on the Hub, `layouts` says
where in their rows prompts lie.
"""
