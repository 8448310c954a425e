"""The result of an edit as a PEFT adapter.

The way: `change` says what an edit changes of the base, `low_rank` makes two factors of each matrix of it; all of it is
`collected` by its `place` in the model, or refused (`refusals`), and has the names of PEFT (`naming`) in the `output`,
which is `read_again` before it appears.
"""
