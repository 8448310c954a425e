"""Directions in the space of weights.

A difference of checkpoints (`task_vector`), one direction in all that writes to the stream (`rank_one`), a merge of
several (`ties_merge`), a control in place of one (`stand_in`); `lineage` and `edit_area` say how checkpoints are
related.
"""
