"""Directions in the space of weights.

What an edit steps along is a row of the `table`: `harm`, `safety`, a `direction`. They are formed of a difference of
checkpoints (`task_vector`), one direction in all that writes to the stream (`rank_one`), several that are merged
(`merges`, `ties_merge`), a control in place of one (`stand_in`); `lineage` and `edit_area` say how checkpoints are
related.
"""
