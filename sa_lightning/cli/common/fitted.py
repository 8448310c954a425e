"""What `sa fit` says of directions, words and gates, and draws."""

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sa_lightning.callbacks import ExtractionCallback
from sa_lightning.evaluation import rate
from sa_lightning.evaluation.report.curves import draw_layers
from sa_lightning.evaluation.report.gate_charts import draw_gate
from sa_lightning.evaluation.report.vocabulary_chart import draw_vocabulary
from sa_lightning.evaluation.statistics.intervals import Rate
from sa_lightning.steering.directions.vocabulary import visible


def say_layers(steering: ExtractionCallback, output: Path, console: Console) -> None:
    """Say, and draw, how well the layers tell safe from unsafe."""
    artifact = steering.artifact
    assert artifact is not None
    chosen = {name: artifact.steered_layers(name) for name in artifact.directions}
    if not artifact.statistics:  # no pairs were read
        return
    draw_layers(artifact.statistics, chosen, output / "layers.svg")
    for name, found in artifact.statistics.items():
        known = {layer: area for layer, area in zip(found["layers"], found["auroc"], strict=True) if area == area}
        if known:
            best = max(known, key=lambda layer: known[layer])
            least, most = f"{min(known.values()):.2f}", f"{known[best]:.2f}"
            console.print(
                f"Held-out pairs (n = {found['held_out'][0]}), {name} weights: safe from unsafe with an AUROC of "
                f"{most if least == most else f'{least} to {most} (layer {best})'}; steered: {_span(chosen[name])}.",
                soft_wrap=True,
            )
    console.print(f"[bold]{output / 'layers.svg'}[/bold]  the same, layer by layer")


def say_vocabulary(steering: ExtractionCallback, output: Path, console: Console) -> None:
    """Say, and draw, which words the directions of each segment of layers write."""
    artifact = steering.artifact
    assert artifact is not None
    path = output / "vocabulary.svg"
    path.unlink(missing_ok=True)  # of an earlier fit, which `--overwrite` gave up
    vocabulary = artifact.extraction.get("vocabulary", {})
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
        console.print(f"[bold]{path}[/bold]  the same, with the logits")


def say_gates(steering: ExtractionCallback, output: Path, console: Console) -> None:
    """Say, and draw, what the gates make of prompts."""
    artifact = steering.artifact
    assert artifact is not None
    for old in output.glob("gate*.svg"):
        old.unlink()  # of an earlier fit, which `--overwrite` gave up
    for part, one in artifact.together.items():
        kinds = one.finds()
        for name, found in (one.gate or {"sets": {}})["sets"].items():
            (k, n), (j, m) = found["found"], found["others"]
            recall, alarms = rate(k, n), rate(j, m)
            which = "held-out prompts" if found["held_out"] else "the prompts it was fitted on"
            console.print(
                f"Gate{f' of {part}' if part else ''}, {name} weights: from {found['threshold']:.4g} on a prompt "
                f"counts as {kinds}. Of {which}: {k}/{n} {kinds} ({_percent(recall)}), "
                f"{j}/{m} others ({_percent(alarms)}); AUROC {found['auroc']:.3f}.",
                soft_wrap=True,
            )
            for kind, single in found.get("joined", {}).items():
                (d, e), (f, g) = single["found"], single["others"]
                console.print(
                    f"  Of these, that for {kind}: from {single['threshold']:.4g} on, {d}/{e} of them and {f}/{g} "
                    f"others; AUROC {single['auroc']:.3f}.",
                    soft_wrap=True,
                )
            if "spares" in found:
                first = found["spares"]
                (a, b), (c, _) = first["spared"]["found"], first["spared"]["others"]
                (d, e), (f, _) = first["found"], first["steered"]
                console.print(
                    f"  Spared before that: {d}/{e} {' and '.join(one.gate_kinds('spares'))}, of which {f} are steered "
                    f"nonetheless; and {a} {kinds} and {c} others, which are so not found.",
                    soft_wrap=True,
                )
                if k < math.ceil(one.gate_settings.recall * n - 1e-9) <= k + a:
                    console.print(
                        f"  [yellow]A recall of {one.gate_settings.recall} was asked for:[/yellow] {a} of {b} are "
                        "spared first. Are the kinds in `gate.spares` too like those in `gate.finds`?",
                        soft_wrap=True,
                    )
            path = output / "-".join(["gate", *([part] if part else []), *([name] if name != "original" else [])])
            path = path.with_name(f"{path.name}.svg")
            if draw_gate(found, path, f"{part}, {name}" if part else name):
                console.print(f"[bold]{path}[/bold]  its scores, how sure they are, and each layer alone")
    for file, kinds in steering.unused_kinds.items():
        told = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        console.print(f"No gate and no part is fitted on these kinds of {file}: {told}.", soft_wrap=True)


def _percent(found: Rate) -> str:
    _, low, high = found.percent
    return f"{low:.0f} to {high:.0f} %"


def _span(layers: list[int]) -> str:
    """Layers in few words."""
    if len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers))}"
