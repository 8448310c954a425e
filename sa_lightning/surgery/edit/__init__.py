"""From settings to an edited model.

The way: `opening` makes a delta of `sources`, `choosing` selects of it as `settings` say, `planning` puts both into a
`plan`, which is carried out `on_disk` or `in_memory`. `saliency` scores weights for it (kept by `scores`);
`layer_scales` finds how far each layer steps, by the shift of answers (`answer_shift`).
"""
