"""Many settings of one method: a `space` of them, `trials` on disk at once, and a `report` with the front."""
