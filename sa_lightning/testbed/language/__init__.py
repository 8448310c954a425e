"""Invented languages.

A `lexicon` (`tiny`, `small`), the `sentences` that are made of it, and what is said in it (`language`).
"""
