"""Steering while a model runs.

`hooks` read and change what modules write; a `component` is one way to steer. Gated ones are decided once for each
prompt (`conditional`, `decision`), on its own cache (`prompt_cache`), which is read (`prompt_reader`) where it ends
(`prompt_lengths`). `self_contrast` steers logits instead.
"""
