"""Does a reply decline? English, without a model.

The way: `sentences` of a reply, its `thoughts` taken off, are searched for `signs` (`declining`, `frames`,
`questions`); these become `features`, and the `detector` weighs them.
"""
