"""What is shown.

`results` as JSON, `tables`, a `page` with its `headline` and `sections`, charts, and what judges say (`judgements`).
"""
