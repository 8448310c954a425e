"""Tasks in, judged samples out, through lm-eval.

The way: the `harness` hands tasks to lm-eval, whose model is one `in_memory`; it answers in `batches`, keeps them in a
`journal`, and may put an instruction before each prompt (`prompting`).
"""
