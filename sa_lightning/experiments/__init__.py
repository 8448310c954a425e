"""Many measurements of one model: a `bench` loads it once and measures it under many `settings`."""
