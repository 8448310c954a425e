"""`sa export`: an artifact as a file that another program reads."""

from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser

from sa_lightning.cli.common.inputs import parse
from sa_lightning.foreign.terminal import Terminal


def parser() -> ArgumentParser:
    """Describe the verb's options."""
    found = ArgumentParser(
        prog="sa export",
        exit_on_error=False,
        description="Write the steering of an artifact as the file that lm-eval's own model `steered` reads: for "
        "machines that have lm-eval and nothing of ours. That format can add a vector, or set or remove a coordinate, "
        "the same for every token; anything else, such as a step that keeps the norm, is refused. The file is one of "
        "torch.save, because lm-eval reads no other; it holds tensors, numbers and text only.",
    )
    found.add_argument("-c", "--config", action="config", help="YAML file with these options.")
    found.add_argument("--artifact", type=str, required=True, help="Directory or Hub repository written by `sa fit`.")
    found.add_argument("--output", type=str, required=True, help="The file, which must not exist: steer.pt.")
    found.add_argument("--format", type=Literal["lm_eval"], default="lm_eval", help="Who is to read it.")
    found.add_argument(
        "--weights",
        type=Literal["original", "edited"],
        default="original",
        help="Which weights will be loaded there: the target's, or those of the edited checkpoint that the fit wrote.",
    )
    found.add_argument(
        "--model", type=str | None, default=None, help="Where the model's config is, if not where it was for the fit."
    )
    found.add_argument("--trust_remote_code", type=bool, default=False, help="Run Python code of the model.")
    return found


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(parser(), "export", arguments)
    from sa_lightning.export import write_steered
    from sa_lightning.names import resolve_worlds
    from sa_lightning.outputs import Output
    from sa_lightning.source import read
    from sa_lightning.steering import SteeringArtifact

    artifact = SteeringArtifact.from_pretrained(options.artifact)
    with Output.of_file(options.output, "export", overwrite=None):
        hooks = write_steered(
            artifact, options.output, options.weights, model=options.model, trust_remote_code=options.trust_remote_code
        )
    source = resolve_worlds(options.model or artifact.model, 0, quiet=True)
    loaded = ("MERGED" if read(source).adapters else source) if options.weights == "original" else "EDITED"
    console = Terminal()
    console.wrote(options.output, f"{len(hooks)} hooks, for {options.weights} weights")
    chat = " --apply_chat_template" if artifact.template == "chat" else ""
    console.print(
        f"  lm-eval run --model steered --model_args pretrained={loaded},steer_path={options.output}{chat} "
        "--tasks TASKS",
        soft_wrap=True,
        highlight=False,
    )
    if artifact.template != "chat":
        console.print(
            f"The artifact was fitted with the template `{artifact.template}`; lm-eval uses the tokenizer's own.",
            soft_wrap=True,
        )
