"""Which prompts are steered, and how strongly.

A `gate` scores a prompt by its states, and a `policy` says how strongly a score is steered. The kinds: `transition`,
`linear`, `condition`, and gates `combined`. `settings` say what one is to find, `fitting` fits it with its threshold.
"""
