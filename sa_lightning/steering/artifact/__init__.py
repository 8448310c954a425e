"""What is fitted, as one directory.

The `artifact` with its `rule`s, its `format`, its model `card`, the `fingerprint` of the weights that it belongs to, and
`rule_settings`, which are fitted on prompts.
"""
