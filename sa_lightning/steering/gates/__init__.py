"""Which prompts are steered, and how strongly.

A `gate` scores a prompt by its states and a policy weighs the score. Its kinds: `transition`, `linear`, `condition`.
`settings` say what it is to find, `fitting` fits it with its threshold.
"""
