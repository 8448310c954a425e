"""From states to directions.

The way: `states` that prompts leave in the stream become one direction a layer, of pairs (`paired`, by `principal`
components or a `probe`, put together by `fitting`), of `unpaired` prompts, or a `null_space` map. `separability`,
`vocabulary` and `controls` say what a direction is worth.
"""
