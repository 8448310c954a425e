"""The model card of an artifact: what it is, how to use it, and the numbers."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from sa_lightning.steering.directions.vocabulary import visible
from sa_lightning.steering.gates.settings import GateSettings
from sa_lightning.steering.intervention import INTERVENTIONS

ELSEWHERE = ("vocabulary", "strength_search", "sinks")  # of `extraction`, what the card tells in words
COLUMNS = ("layers", "activation_norm", "difference_norm", "separation", "auroc")


#: Of directions of parts: where they point, and what a positive strength does.
SIGNS = {
    "refusal": "directions point from harmless to harmful prompts; a positive strength leads to refusal",
    "false_refusal": "directions point from harmless to borderline prompts; a positive strength leads to false "
    "refusal; of `ablate` and `match` it says how much of that is taken away",
    "null_space": "maps lead to where harmful prompts are refused; a positive strength leads to refusal",
}


@runtime_checkable
class Described(Protocol):
    """What a card tells of an artifact; see `SteeringArtifact`."""

    model: str
    num_layers: int
    d_model: int
    site: str
    intervention: str
    strength: float | dict[int, float]
    unit: str
    sinks: float | None
    dose: dict[str, dict[int, float]]
    gate: dict[str, Any] | None
    only_prompt: bool
    demonstrations: dict[str, Any]
    extraction: dict[str, Any]
    surgery: dict[str, Any] | None
    statistics: dict[str, dict[str, list[Any]]]
    control: dict[str, Any] | None

    @property
    def parts(self) -> Mapping[str, "Described"]: ...

    @property
    def whole_prompt(self) -> bool: ...

    @property
    def gate_settings(self) -> GateSettings: ...

    def finds(self) -> str: ...

    def gate_kinds(self, side: str) -> list[str]: ...

    def steered_layers(self, name: str) -> list[int]: ...

    def controls(self) -> list[str]: ...


def card(artifact: Described, results: str = "") -> str:
    """Write the model card: what it is, how to use it, and the numbers."""
    rows = []
    for name, found in artifact.statistics.items():
        columns = [found.get(key, []) for key in COLUMNS]
        for row in range(len(found["activation_norm"])):
            values = [column[row] if row < len(column) else None for column in columns]
            layer = row if values[0] is None else values[0]
            steered = _strength(artifact, layer) if layer in artifact.steered_layers(name) else "–"
            rows.append(f"| {name} | {layer} | {' | '.join(map(_short, values[1:]))} | {steered} |")
    table = "\n".join(rows)
    extraction = _how(artifact) or "not recorded"
    pairs = artifact.demonstrations.get("pairs", "?")
    asked = artifact.demonstrations.get("role") == "user"
    what = "harmless and harmful questions" if asked else "safe and unsafe passages"
    main = f"""Directions for the {artifact.site} output of its blocks, from {pairs} pairs of {what}.
How they were found: {extraction}. `{artifact.intervention}` with strength {_said(artifact)}{_where(artifact)},
{_gate(artifact)}.
"""
    main = main if artifact.statistics or not artifact.parts else ""
    surgery = json.dumps(artifact.surgery, indent=2) if artifact.surgery else "none"
    controls = artifact.controls()
    warning = f"\n**This is a control, not a method: {'; '.join(controls)}.**\n" if controls else ""
    drawn = (artifact.control or {}).get("kind") == "random"
    of = "\nThese numbers are of the fitted directions, in whose place others were drawn.\n" if drawn else ""
    return f"""---
library_name: sa_lightning
tags: [safety, activation-steering{", control" if controls else ""}]
---
# Steering artifact for {artifact.model}
{warning}
For a model with {artifact.num_layers} layers (d_model {artifact.d_model}).
{main}{_parts(artifact)}

```python
from sa_lightning import SteeringArtifact, steer

artifact = SteeringArtifact.from_pretrained("path/or/repo")
with steer(model, artifact):
    model.generate(...)
```

## States
{of}
| weights | layer | norm of states | norm of mean(safe − unsafe) | pairs on the right side | held-out AUROC | strength |
|---|---|---|---|---|---|---|
{table}
{_vocabulary(artifact)}
## Results

{results or "Not measured yet: `sa validate --artifact <this directory> --output DIR`."}

## Parameter surgery

```json
{surgery}
```
"""


def sign(artifact: Described) -> str:
    """Say where the directions point, and what a positive strength does."""
    fitted = SIGNS.get(artifact.extraction.get("direction", ""))
    if fitted is None and artifact.demonstrations.get("role") == "user":
        return "directions point from harmful to harmless questions; a positive strength leads away from refusal"
    return fitted or "directions point towards the safe side; a positive strength makes safer"


def _parts(artifact: Described) -> str:
    """Say what acts besides."""
    return "".join(
        f"\nPart `{name}`: {_how(part)}. "
        f"`{part.intervention}` with strength {_said(part)}"
        f"{_where(part)}, {_gate(part)}.\n"
        for name, part in artifact.parts.items()
    )


def _where(artifact: Described) -> str:
    """Say which tokens are steered, unless all are."""
    if not artifact.only_prompt:
        return ""
    return ", at the tokens of the prompt alone" if artifact.whole_prompt else ", where the prompt ends alone"


def _gate(artifact: Described) -> str:
    """Say which prompts are steered."""
    if artifact.gate is None:
        return "at every prompt"
    settings = artifact.gate_settings
    told, kinds = [], artifact.finds()
    for name, found in artifact.gate["sets"].items():
        (k, n), (j, m) = found["found"], found["others"]
        seen = "held-out" if found["held_out"] else "the very"
        told.append(
            f"on {name} weights from a score of {found['threshold']:.4g} on: {k} of {n} {kinds} and {j} of {m} other "
            f"prompts among {seen} prompts (AUROC {found['auroc']:.3f})"
        )
        if "spares" in found:
            first = found["spares"]
            told.append(
                f"{first['found'][0]} of {first['found'][1]} {' and '.join(artifact.gate_kinds('spares'))} are spared "
                f"before that, and {first['steered'][0]} of them steered nonetheless"
            )
        told += [
            f"of which that for {kind}, from {one['threshold']:.4g} on, finds {one['found'][0]} of {one['found'][1]} "
            f"and {one['others'][0]} of {one['others'][1]} others"
            for kind, one in found.get("joined", {}).items()
        ]
    return (
        f"weighted by a `{settings.kind}` gate, {settings.found:+g} at prompts that it takes for {kinds} and "
        f"{settings.others:+g} at others; " + "; ".join(told)
    )


def _how(artifact: Described) -> str:
    """How directions were found, in a line."""
    return ", ".join(f"{key} `{value}`" for key, value in artifact.extraction.items() if key not in ELSEWHERE)


def _said(artifact: Described) -> str:
    """A strength with its unit, how it was found, what it comes to, and what is left alone."""
    told = [f"{artifact.strength} ({INTERVENTIONS[artifact.intervention].unit_of(artifact.unit)})"]
    search = artifact.extraction.get("strength_search")
    if search:
        told.append(f"the largest whose KL divergence on harmless replies is within {search['budget']:g} nats a token")
    for name, found in artifact.dose.items():
        told.append(f"a dose of {sum(found.values()):.2g} of the typical norm of the stream in all on {name} weights")
    if artifact.sinks is not None:
        told.append(f"states over {artifact.sinks:g} typical norms left alone")
    return "; ".join(told)


def _vocabulary(artifact: Described) -> str:
    """Say which words the directions of each segment of layers write."""
    rows = []
    for name, found in artifact.extraction.get("vocabulary", {}).items():
        for number, one in enumerate(found["segments"]):
            tokens, opposite = (", ".join(map(_code, one[side])) for side in ("tokens", "opposite"))
            rows.append(
                f"| {name} | {one['layers'][0]} to {one['layers'][-1]} | {100 * one['score']:.0f} % | {tokens} | "
                f"{opposite} | {'yes' if number == found['steered'] else 'no'} |"
            )
    if not rows:
        return ""
    return f"""
## Words

The first principal component of the directions of each segment of layers, projected on the output head, writes these
tokens; steered is the segment with most words of refusal among them (SCANS, arXiv 2408.11491, section 3.2).

| weights | layers | words of refusal | top tokens | of the other sign | steered |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""


def _code(token: str) -> str:
    """A token as code within a cell of a table."""
    ticks = re.findall("`+", token)
    fence, blank = "`" * (1 + max(map(len, ticks), default=0)), " " if ticks else ""
    return f"{fence}{blank}{visible(token) or ' '}{blank}{fence}".replace("|", "\\|")


def _strength(artifact: Described, layer: int) -> str:
    strength = artifact.strength
    return f"{strength[layer] if isinstance(strength, dict) else strength:g}"


def _short(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3g}"
