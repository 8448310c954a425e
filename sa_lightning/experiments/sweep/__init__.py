"""Many settings of one method.

A `sweep` goes through a `space` of settings; `trials` are on disk at once, and a `report` shows the front.
"""
