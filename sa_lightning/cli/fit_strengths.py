"""What `sa fit` says of strengths: how one was found, what it moves in each layer and in all, what is left alone."""

from pathlib import Path

from rich.console import Console

from sa_lightning.evaluation.strength_chart import draw_strength
from sa_lightning.steering import SteeringArtifact

LARGE = 1.0  # a dose in all from which replies of real models were seen to break


def say_strengths(artifact: SteeringArtifact, output: Path, console: Console) -> None:
    """Print, and draw, strengths and doses of an artifact and its parts."""
    for old in output.glob("strength*.svg"):
        old.unlink()  # of an earlier fit, which `--overwrite` gave up
    for part, one in artifact.together.items():
        if not any(one.dose.values()):
            continue
        what, search = f" of {part}" if part else "", one.extraction.get("strength_search")
        if search:
            kl, garbled = next((kl, bad) for strength, kl, bad in search["tried"] if strength == search["strength"])
            console.print(
                f"Strength{what}: {search['strength']:.3g}, found in {len(search['tried'])} steps: the KL divergence on "
                f"replies to {search['prompts']} harmless prompts is {kl:.2g} nats a token ({search['budget']:g} are "
                f"allowed), {garbled} of them no language.",
                soft_wrap=True,
            )
        for name, found in one.dose.items():
            each = ", ".join(f"{layer}: {dose:.2g}" for layer, dose in found.items())
            console.print(
                f"Dose{what}, {name} weights: {sum(found.values()):.2g} in all, as a fraction of the typical norm of the "
                f"stream; by layer {each}.",
                soft_wrap=True,
                highlight=False,
            )
            if sum(found.values()) > LARGE:
                console.print(
                    f"  [yellow]A dose of {sum(found.values()):.2g} leads the stream further than its own length:"
                    "[/yellow] real models were seen to lose their language from about 1 on. Is `strength: auto` meant?",
                    soft_wrap=True,
                )
        for name, sinks in one.extraction.get("sinks", {}).items():
            if sinks["states"]:
                console.print(
                    f"Left alone{what}, {name} weights: {sinks['states']} of {sinks['tokens']} tokens, with states over "
                    f"{one.sinks:g} × the typical norm (attention sinks; {sinks['first_tokens']} of them first tokens).",
                    soft_wrap=True,
                )
        path = output / f"strength{f'-{part}' if part else ''}.svg"
        draw_strength(search, one.dose, path)
        console.print(f"[bold]{path}[/bold]  the same, drawn")
