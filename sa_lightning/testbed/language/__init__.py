"""Invented languages: a `lexicon` (`tiny`, `small`), its `sentences`, and what is said in it (`language`)."""
