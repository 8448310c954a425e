"""What `sa fit` says of directions, words and gates, and draws."""

import math
from pathlib import Path

from rich.table import Table
from rich.text import Text

from sa_lightning.evaluation import rate
from sa_lightning.evaluation.report.curves import draw_layers
from sa_lightning.evaluation.report.gate_charts import draw_gate
from sa_lightning.evaluation.report.vocabulary_chart import draw_vocabulary
from sa_lightning.fitting.rules import PromptRules
from sa_lightning.foreign.terminal import Terminal
from sa_lightning.steering import PAIRS, FittedGate, GateRecord, SteeringArtifact
from sa_lightning.steering.directions.vocabulary import visible
from sa_lightning.steering.gates.record import Count


def say_layers(artifact: SteeringArtifact, output: Path, console: Terminal) -> None:
    """Say, and draw, how well the layers tell safe from unsafe."""
    rule = artifact.rules.get(PAIRS)
    if rule is None:  # no pairs were read
        return
    chosen = {name: rule.steered_layers(name) for name in rule.directions}
    draw_layers(rule.statistics, chosen, output / "layers.svg")
    for name, found in rule.statistics.items():
        known = {layer: area for layer, area in zip(found["layers"], found["auroc"], strict=True) if area == area}
        if known:
            best = max(known, key=lambda layer: known[layer])
            least, most = f"{min(known.values()):.2f}", f"{known[best]:.2f}"
            console.print(
                f"Held-out pairs (n = {found['held_out'][0]}), {name} weights: safe from unsafe with an AUROC of "
                f"{most if least == most else f'{least} to {most} (layer {best})'}; steered: {_span(chosen[name])}.",
                soft_wrap=True,
            )
    console.wrote(output / "layers.svg", "the same, layer by layer")


def say_vocabulary(artifact: SteeringArtifact, output: Path, console: Terminal) -> None:
    """Say, and draw, which words the directions of each segment of layers write."""
    path = output / "vocabulary.svg"
    rule = artifact.rules.get(PAIRS)
    vocabulary = {} if rule is None else rule.extraction.get("vocabulary", {})
    for name, found in vocabulary.items():
        table = Table(title=f"Words that the directions write, {name} weights", title_justify="left")
        for heading in ("layers", "words of refusal", "top tokens", "of the other sign", "steered"):
            table.add_column(heading)
        for number, one in enumerate(found["segments"]):
            said = Text(" ").join(
                Text(visible(token), style="bold" if refuses else "")
                for token, refuses in zip(one["tokens"], one["refusal"], strict=True)
            )
            table.add_row(
                f"{one['layers'][0]} to {one['layers'][-1]}",
                f"{100 * one['score']:.0f} %",
                said,
                Text(" ".join(map(visible, one["opposite"]))),
                "yes" if number == found["steered"] else "",
            )
        console.print(table)
    if vocabulary:
        draw_vocabulary(vocabulary, path)
        console.wrote(path, "the same, with the logits")


def say_gates(artifact: SteeringArtifact, output: Path, console: Terminal) -> None:
    """Say, and draw, what the gates make of prompts."""
    for key, rule in artifact.gated.items():
        gate = rule.gate
        assert gate is not None
        kinds, of = gate.said(), "" if key == PAIRS else f" of {key}"
        for name, (_, found) in gate.states.items():
            which = "held-out prompts" if found.held_out else "the prompts it was fitted on"
            console.print(
                f"Gate{of}, {name} weights: from {found.threshold:.4g} on a prompt counts as {kinds}. Of {which}: "
                f"{_of(found.positive)} {kinds} ({_percent(found.positive)}), {_of(found.negative)} others "
                f"({_percent(found.negative)}); AUROC {found.auroc:.3f}.",
                soft_wrap=True,
            )
            for kind, one in found.joined.items():
                console.print(
                    f"  Of these, that for {kind}: from {one.threshold:.4g} on, {_of(one.positive)} of them and "
                    f"{_of(one.negative)} others; AUROC {one.auroc:.3f}.",
                    soft_wrap=True,
                )
            if found.exempt:
                _say_exempt(gate, found, console)
            path = output / "-".join(
                ["gate", *([] if key == PAIRS else [key]), *([] if name == "original" else [name])]
            )
            path = path.with_name(f"{path.name}.svg")
            if draw_gate(found, path, name if key == PAIRS else f"{key}, {name}"):
                console.wrote(path, "its scores, how sure they are, and each layer alone")


def _say_exempt(gate: FittedGate, found: GateRecord, console: Terminal) -> None:
    first = found.exempt
    assert first is not None
    kinds, (lost, count), (others, _) = gate.said(), first.exempted["positive"], first.exempted["negative"]
    console.print(
        f"  Exempted before that: {_of(first.positive)} {' and '.join(gate.kinds_of('exempt'))}, of which "
        f"{first.steered[0]} are steered nonetheless; and {lost} {kinds} and {others} others, which so do not count as "
        "such.",
        soft_wrap=True,
    )
    k, n = found.positive
    if k < math.ceil(gate.settings.recall * n - 1e-9) <= k + lost:
        console.warn(
            f"  A recall of {gate.settings.recall} was asked for:",
            f"{lost} of {count} are exempted first. Are the kinds in `gate.exempt` too like those in `gate.positive`?",
        )


def say_unused(prompts: PromptRules | None, console: Terminal) -> None:
    """Say which kinds of prompts nothing was fitted on."""
    for file, kinds in ({} if prompts is None else prompts.unused).items():
        told = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        console.print(f"No gate and no rule is fitted on these kinds of {file}: {told}.", soft_wrap=True)


def _of(count: Count) -> str:
    return f"{count[0]}/{count[1]}"


def _percent(count: Count) -> str:
    _, low, high = rate(*count).percent
    return f"{low:.0f} to {high:.0f} %"


def _span(layers: list[int]) -> str:
    """Layers in few words."""
    if len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers))}"
