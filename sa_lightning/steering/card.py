"""The model card of an artifact: what it is, how to use it, and the numbers."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sa_lightning.steering.artifact import SteeringArtifact


def card(artifact: "SteeringArtifact", results: str = "") -> str:
    """Write the model card: what it is, how to use it, and the numbers."""
    rows = []
    for name, statistics in artifact.statistics.items():
        for layer, (norm, difference, separation) in enumerate(
            zip(
                statistics["activation_norm"],
                statistics["difference_norm"],
                statistics["separation"],
                strict=True,
            )
        ):
            rows.append(f"| {name} | {layer} | {norm:.3g} | {difference:.3g} | {separation:.2f} |")
    table = "\n".join(rows)
    pairs = artifact.demonstrations.get("pairs", "?")
    surgery = json.dumps(artifact.surgery, indent=2) if artifact.surgery else "none"
    return f"""---
library_name: sa_lightning
tags: [safety, activation-steering]
---
# Steering artifact for {artifact.model}

Directions at the {artifact.site} output of {artifact.num_layers} layers (d_model {artifact.d_model}), fitted on {pairs}
pairs of safe and unsafe answers. `{artifact.intervention}` with strength {artifact.strength}, gate `{artifact.gate}`.

```python
from sa_lightning import SteeringArtifact, steer

artifact = SteeringArtifact.from_pretrained("path/or/repo")
with steer(model, artifact):
    model.generate(...)
```

## States

| weights | layer | mean norm of the states | norm of mean(safe − unsafe) | pairs on the right side |
|---|---|---|---|---|
{table}

## Results

{results or "Not measured yet: `sa validate --artifact <this directory> --output DIR`."}

## Parameter surgery

```json
{surgery}
```
"""
