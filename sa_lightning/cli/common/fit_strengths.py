"""What `sa fit` says of strengths: how one was found, what it moves in each layer and in all, what is left alone."""

from pathlib import Path
from typing import Any

from rich.console import RenderableType

from sa_lightning.evaluation.report.strength_chart import draw_strength
from sa_lightning.foreign.terminal import Terminal, styled
from sa_lightning.steering import PAIRS, SteeringArtifact

LARGE = 1.0  # a dose in all from which replies of real models were seen to break


def say_strengths(artifact: SteeringArtifact, output: Path, console: Terminal) -> None:
    """Print, and draw, strengths and doses of the rules of an artifact."""
    for key, rule in artifact.rules.items():
        if not any(rule.dose.values()):
            continue
        what, search = "" if key == PAIRS else f" of {key}", rule.extraction.get("strength_search")
        lines: list[RenderableType] = [_searched(what, search)] if search else []
        for name, found in rule.dose.items():
            weights = f"{what}, {name} weights"
            most = max(found, key=lambda layer: found[layer])
            lines.append(
                f"Dose{weights}: {sum(found.values()):.2g} of the typical norm of the stream in all, "
                f"{min(found.values()):.2g} to {found[most]:.2g} a layer (most at layer {most})."
            )
            if sum(found.values()) > LARGE:
                lines.append(
                    styled(
                        ("  That leads the stream further than its own length:", "yellow"),
                        " real models were seen to lose their language from about 1 on. `--steering.strength auto` "
                        "finds what this one bears.",
                    )
                )
            sinks = rule.extraction.get("sinks", {}).get(name)
            if sinks and sinks["states"]:
                lines.append(
                    f"Left alone{weights}: {sinks['states']} of {sinks['tokens']} tokens, with states over "
                    f"{rule.sinks:g} typical norms (attention sinks; {sinks['first_tokens']} of them first tokens)."
                )
        for line in lines:
            console.print(line, soft_wrap=True, highlight=False)
        path = output / f"strength{'' if key == PAIRS else f'-{key}'}.svg"
        draw_strength(search, rule.dose, path)
        console.wrote(path, "the same, drawn")


def _searched(what: str, search: dict[str, Any]) -> str:
    kl, garbled = next((kl, bad) for strength, kl, bad in search["tried"] if strength == search["strength"])
    return (
        f"Strength{what}: {search['strength']:.3g}, the largest of {len(search['tried'])} that harmless replies bear: "
        f"KL {kl:.2g} nats a token ({search['budget']:g} are allowed), {garbled} of {search['prompts']} no language."
    )
