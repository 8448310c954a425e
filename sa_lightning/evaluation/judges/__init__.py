"""What became of a reply.

The `registry` knows judges by name (`protocol` says what one is): rules (`phrases`, the refusal detector, those of
`worlds`) and models (`model_judge`), which are asked by a rubric (`rubrics`, without `markers`), in this process
(`local_model`) or behind a server (`endpoint`); `verdict_parsing` reads what they answer, `answer_cache` keeps it.
`replies` are read, and written with verdicts.
"""
