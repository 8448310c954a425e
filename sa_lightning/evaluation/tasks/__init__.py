"""What is asked.

`prompts`, `worlds` and `utility` are the documents of tasks; the `catalogue` says which tasks can be run here.
"""
