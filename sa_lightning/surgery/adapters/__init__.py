"""The result of an edit as a PEFT adapter.

The way: `change` says what an edit changes of the base, `low_rank` makes two factors of it, `place` says how peft names
what is changed, and `output` writes it all.
"""
