"""What is fitted, as one directory.

The `artifact` with its `rule`s, its `format`, its model `card` and the `fingerprint` of the weights that it belongs to;
`rule_settings` are those of rules that are fitted on prompts.
"""
