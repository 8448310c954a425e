"""What is shown: `results` as JSON, `tables`, a `page` with its `sections`, and charts."""
