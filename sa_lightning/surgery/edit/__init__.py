"""From settings to an edited model.

The way: `settings` and `sources` are resolved by `planning` into a `plan`, which is carried out `on_disk` or
`in_memory`. `saliency` scores weights for it; `layer_scales` finds how far each layer steps, by the shift of answers
(`answer_shift`).
"""
