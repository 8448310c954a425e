"""The model card of an artifact: what it is, how to use it, and the numbers."""

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from sa_lightning.files import Json
from sa_lightning.foreign.showing import code, in_markdown
from sa_lightning.steering.artifact.rule import Rule
from sa_lightning.steering.directions.prompted import PROMPTED
from sa_lightning.steering.directions.vocabulary import visible

ELSEWHERE = ("vocabulary", "strength_search", "sinks")  # of `extraction`, what the card tells in words
HEAD = """\
| rule | weights | layer | norm of states | norm of mean(safe − unsafe) | right side | held-out AUROC | strength |
|---|---|---|---|---|---|---|---|
"""
COLUMNS = ("layers", "activation_norm", "difference_norm", "separation", "auroc")


@runtime_checkable
class Described(Protocol):
    """What a card tells of an artifact; see `SteeringArtifact`."""

    rules: dict[str, Rule]
    model: str
    num_layers: int
    d_model: int
    quantization: str | None
    demonstrations: Json
    surgery: Json | None
    control: Json | None
    template: str
    template_arguments: Json
    system_prompt: str | None
    template_tail: str | None

    def controls(self) -> list[str]: ...


def card(artifact: Described, results: str = "") -> str:
    """Write the model card: what it is, how to use it, and the numbers."""
    described = "\n".join(_described(name, rule, artifact.demonstrations) for name, rule in artifact.rules.items())
    table = "\n".join(row for name, rule in artifact.rules.items() for row in _rows(name, rule))
    table = f"{HEAD}{table}" if table else "Nothing is kept of them: no rule was fitted on pairs."
    words = "".join(_vocabulary(rule) for rule in artifact.rules.values())
    surgery = json.dumps(artifact.surgery, indent=2) if artifact.surgery else "none"
    controls = artifact.controls()
    warning = f"\n**This is a control, not a method: {in_markdown('; '.join(controls))}.**\n" if controls else ""
    drawn = (artifact.control or {}).get("kind") == "random"
    quantised = f", its weights quantised ({in_markdown(artifact.quantization)})" if artifact.quantization else ""
    of = "\nThese numbers are of the fitted directions, in whose place others were drawn.\n" if drawn else ""
    return f"""---
library_name: sa_lightning
tags: [safety, activation-steering{", control" if controls else ""}]
---
# Steering artifact for {in_markdown(artifact.model)}
{warning}
For a model with {artifact.num_layers} layers (d_model {artifact.d_model}){quantised}. {_prompts(artifact)}

{described}
```python
from sa_lightning import SteeringArtifact, steer

artifact = SteeringArtifact.from_pretrained("path/or/repo")
with steer(model, artifact):
    model.generate(...)
```

## States
{of}
{table}
{words}
## Results

{results or "Not measured yet: `sa validate --artifact <this directory> --output DIR`."}

## Parameter surgery

```json
{surgery}
```
"""


def _prompts(artifact: Described) -> str:
    """Say how conversations were written in the fit."""
    found = f"Prompts were written by the template {code(artifact.template)}"
    if artifact.template_arguments:
        found += f" with {code(json.dumps(artifact.template_arguments, default=str))}"
    if artifact.template_tail:
        found += f", which ends them with {code(repr(artifact.template_tail))}"
    if artifact.system_prompt:
        found += f"; the system said {code(artifact.system_prompt)}"
    if "strftime_now" in artifact.template_arguments:
        found += f". Today was {code(artifact.template_arguments['strftime_now'])} to it, whenever it was fitted"
    return f"{found}."


def sign(rule: Rule, demonstrations: Mapping[str, Any]) -> str:
    """Say where the directions of a rule point, and what a positive strength does."""
    known = PROMPTED.get(rule.extraction.get("direction", ""))
    if known is not None:
        return known.sign
    if demonstrations.get("role") == "user":
        return "directions point from harmful to harmless questions; a positive strength leads away from refusal"
    return "directions point towards the safe side; a positive strength makes safer"


def _described(name: str, rule: Rule, demonstrations: Mapping[str, Any]) -> str:
    """What a rule does, in a paragraph."""
    what = "harmless and harmful questions" if demonstrations.get("role") == "user" else "safe and unsafe passages"
    pairs = f" from {demonstrations.get('pairs', '?')} pairs of {what}," if rule.statistics else ""
    return (
        f"Rule {code(name)}:{pairs} {_how(rule) or 'how its directions were found is not recorded'}; on the "
        f"{rule.site} output of blocks. `{rule.intervention}` with strength {_said(rule)}{_where(rule)}, "
        f"{_gate(rule)}.\n"
    )


def _rows(name: str, rule: Rule) -> list[str]:
    """What is known of the states that a rule was fitted on, layer by layer."""
    rows: list[str] = []
    for weights, found in rule.statistics.items():
        columns = [found.get(key, []) for key in COLUMNS]
        for row in range(len(found["activation_norm"])):
            values = [column[row] if row < len(column) else None for column in columns]
            layer = row if values[0] is None else values[0]
            steered = _strength(rule, layer) if layer in rule.steered_layers(weights) else "–"
            cells = (in_markdown(name), in_markdown(weights), str(layer), *map(_short, values[1:]), steered)
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def _where(rule: Rule) -> str:
    """Say which tokens are steered, unless all are."""
    if not rule.only_prompt:
        return ""
    return ", at the tokens of the prompt alone" if rule.whole_prompt else ", where the prompt ends alone"


def _gate(rule: Rule) -> str:
    """Say which prompts are steered."""
    gate = rule.gate
    if gate is None:
        return "at every prompt"
    told: list[str] = []
    kinds = in_markdown(gate.said())
    for name, (_, found) in gate.states.items():
        (k, n), (j, m) = found.positive, found.negative
        seen = "held-out" if found.held_out else "the very"
        told.append(
            f"on {name} weights from a score of {found.threshold:.4g} on: {k} of {n} {kinds} and {j} of {m} other "
            f"prompts among {seen} prompts (AUROC {found.auroc:.3f})"
        )
        if found.exempt:
            exempt = in_markdown(" and ".join(gate.kinds_of("exempt")))
            told.append(
                f"{found.exempt.positive[0]} of {found.exempt.positive[1]} {exempt} are exempted before that, and "
                f"{found.exempt.steered[0]} of them steered nonetheless"
            )
        told += [
            f"of which that for {in_markdown(kind)}, from {one.threshold:.4g} on, finds {one.positive[0]} of "
            f"{one.positive[1]} and {one.negative[0]} of {one.negative[1]} others"
            for kind, one in found.joined.items()
        ]
    settings = gate.settings
    return (
        f"weighted by a `{settings.kind}` gate, {settings.positive_factor:+g} at prompts that it takes for {kinds} and "
        f"{settings.negative_factor:+g} at others; " + "; ".join(told)
    )


def _how(rule: Rule) -> str:
    """How directions were found, in a line."""
    return ", ".join(
        f"{in_markdown(key)} {code(value)}" for key, value in rule.extraction.items() if key not in ELSEWHERE
    )


def _said(rule: Rule) -> str:
    """A strength with its unit, how it was found, what it comes to, and what is left alone."""
    told = [f"{rule.strength} ({rule.how.unit_of(rule.unit)})"]
    search = rule.extraction.get("strength_search")
    if search:
        told.append(f"the largest whose KL divergence on harmless replies is within {search['budget']:g} nats a token")
    for name, found in rule.dose.items():
        told.append(f"a dose of {sum(found.values()):.2g} of the typical norm of the stream in all on {name} weights")
    if rule.sinks is not None:
        told.append(f"states over {rule.sinks:g} typical norms left alone")
    return "; ".join(told)


def _vocabulary(rule: Rule) -> str:
    """Say which words the directions of each segment of layers write."""
    rows: list[str] = []
    for name, found in rule.extraction.get("vocabulary", {}).items():
        for number, one in enumerate(found["segments"]):
            tokens, opposite = (
                ", ".join(code(visible(token)) for token in one[side]) for side in ("tokens", "opposite")
            )
            rows.append(
                f"| {in_markdown(name)} | {one['layers'][0]} to {one['layers'][-1]} | {100 * one['score']:.0f} % | "
                f"{tokens} | {opposite} | {'yes' if number == found['steered'] else 'no'} |"
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


def _strength(rule: Rule, layer: int) -> str:
    strength = rule.strength
    return f"{strength[layer] if isinstance(strength, dict) else strength:g}"


def _short(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3g}"
