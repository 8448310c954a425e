"""Methods against one another.

The way: the `settings` of a `comparison` are checked (`check`) and planned (`plan`) into measurements, which are `rows`
on disk; a row's own settings are a `choice`. `pairs` and `criteria` test; `findings` are what came out, as `tables`,
`plots` and a `report`.
"""
