"""`sa export`: an artifact as what another program reads, with a proof."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from sa_lightning.cli.common.inputs import parse
from sa_lightning.errors import SettingError
from sa_lightning.files import Json
from sa_lightning.foreign.terminal import Terminal

To = Literal[
    "lm_eval",
    "checkpoint",
    "gguf",
    "repeng",
    "steering-vectors",
    "safetensors",
    "vllm-lens",
    "hotwire",
    "easysteer",
    "vllm-hook",
]
#: Format to what the export is used with, in a line.
USES = {
    "checkpoint": "vllm serve {output}    (or transformers, or a converter to GGUF)",
    "gguf": "llama-server -m MODEL.gguf --control-vector {output}",
    "repeng": "ControlVector.import_gguf({output!r})",
    "steering-vectors": "SteeringVector({{int(k.split('.')[1]): v for k, v in load_file({output!r}).items()}}, TYPE)",
    "safetensors": "load_file({output!r}): add `layers.N` to the output of block N, from 0",
    "vllm-lens": 'vllm_xargs: {{"apply_steering_vectors": the content of {output}}}',
    "hotwire": 'HOTWIRE_VECTORS={output}/vectors vllm serve MODEL; vllm_xargs: {{"hotwire": {output}/request.json}}',
    "easysteer": "cd {output} && vllm serve MODEL --steering-config spec.json",
    "vllm-hook": "VLLM_HOOK_REGISTRY_DIR={output}/artifacts; intervention_spec: {output}/spec.json",
}


def parser() -> ArgumentParser:
    """Describe the verb's options."""
    found = ArgumentParser(
        prog="sa export",
        exit_on_error=False,
        description="Write an artifact as what another program reads, load the result again, and compare its logits "
        "with those of the artifact, on four prompts and the replies to them. The largest difference is printed and "
        "kept in export.json, in or beside the result. What a format cannot say is refused, with the format that comes "
        "nearest; `--approximate true` writes what comes near, and says what is not the same. Formats: `lm_eval` (the "
        "file of lm-eval's `steered`), `checkpoint` (steps of one length as biases in the weights, for any engine), "
        "`gguf` (llama.cpp's control vector), `repeng`, `steering-vectors`, `safetensors`, and of vLLM's plugins "
        "`vllm-lens`, `hotwire`, `easysteer` and `vllm-hook`. Two are files of torch.save, because lm-eval and hotwire "
        "read no other; they hold tensors, numbers and text only.",
    )
    found.add_argument("-c", "--config", action="config", help="YAML file with these options.")
    found.add_argument("--artifact", type=str, required=True, help="Directory or Hub repository written by `sa fit`.")
    found.add_argument(
        "--output",
        type=str,
        required=True,
        help="What is written, which must not exist: a directory (checkpoint, hotwire, easysteer, vllm-hook), or a "
        "file: steer.pt (lm_eval), .gguf (gguf, repeng), .safetensors (steering-vectors, safetensors), .json "
        "(vllm-lens).",
    )
    found.add_argument("--to", type=To, default="lm_eval", help="Which format.")
    found.add_argument(
        "--weights",
        type=Literal["original", "edited"],
        default="original",
        help="For which weights: the target's, or those after the surgery of the fit. Of a checkpoint, which are "
        "written: `edited` redoes the surgery that the artifact records, unless `--model` is the edited checkpoint.",
    )
    found.add_argument("--model", type=str | None, default=None, help="Where the model is, if not where it was.")
    found.add_argument(
        "--approximate",
        type=bool,
        default=False,
        help="Where the format cannot say it: every step as long as at a state of typical norm, for every token of "
        "every prompt. How far that is off is printed; rates (attack success, refusals) are not measured again.",
    )
    found.add_argument(
        "--check",
        type=bool,
        default=True,
        help="Load the result and compare, which takes the weights; with `false` the config is enough.",
    )
    found.add_argument(
        "--dtype",
        type=Literal["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="Type of the weights, that of the fit.",
    )
    found.add_argument("--trust_remote_code", type=bool, default=False, help="Run Python code of the model.")
    return found


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(parser(), "export", arguments)
    if options.to == "checkpoint" and not options.check:
        raise SettingError(
            "`--check false`, but a checkpoint holds the weights, which are read in any case.\n"
            "Whether the baked model is the steered one is seen by its logits alone.\nLeave `--check` out."
        )
    from sa_lightning.export import FORMATS, Settings, export
    from sa_lightning.export.exporting import check_output, record_of
    from sa_lightning.outputs import Output
    from sa_lightning.steering import SteeringArtifact

    output = Path(options.output)
    artifact = SteeringArtifact.from_pretrained(options.artifact)
    names = [output.name] + ([record_of(output, options.to).name] if FORMATS[options.to].suffix else [])
    settings: Any = {name: getattr(options, name) for name in Settings.__dataclass_fields__}
    with Output(output.parent, "export", names, overwrite=None, file=True):
        check_output(output, options.to)
        record = export(artifact, output, Settings(**settings))
    console = Terminal()
    console.wrote(options.output, f"{len(record['steps'])} places, for {options.weights} weights")
    for line in told(record):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"  {use(artifact, options)}", soft_wrap=True, highlight=False)
    if artifact.surgery is not None and options.to == "checkpoint" and options.weights == "original":
        console.print("The surgery of the artifact is not in these weights: `--weights edited`.", soft_wrap=True)
    if options.to == "lm_eval" and artifact.template != "chat":
        console.print(
            f"The artifact was fitted with the template `{artifact.template}`; lm-eval uses the tokenizer's own.",
            soft_wrap=True,
        )


def told(record: Json) -> list[str]:
    """Say what was approximated, and how far the export is from the artifact."""
    lines = [f"Not the same: {one}." for one in record["approximated"]]
    if lines:
        lines.append("The rates of the artifact are not those of this export: nothing was measured on it.")
    check = record["check"]
    if check is None:
        return [*lines, "Not checked: the export was not loaded."]
    return [
        *lines,
        f"Loaded by {check['consumer']}: at {check['tokens']} positions of {check['prompts']} prompts and replies "
        f"the largest difference of a logit is {check['difference']:.2g} (in the mean {check['mean_difference']:.2g}), "
        f"where steering changes {check['effect']:.2g} (in the mean {check['mean_effect']:.2g}; in {check['dtype']}). "
        f"The most likely token is the same at {100 * check['same_token']:.0f} %.",
    ]


def use(artifact: Any, options: Any) -> str:
    """A line with which the export is used."""
    if options.to != "lm_eval":
        return USES[options.to].format(output=options.output)
    from sa_lightning.names import resolve_worlds
    from sa_lightning.source import read

    source = resolve_worlds(options.model or artifact.model, 0, quiet=True)
    loaded = ("MERGED" if read(source).adapters else source) if options.weights == "original" else "EDITED"
    chat = " --apply_chat_template" if artifact.template == "chat" else ""
    return (
        f"lm-eval run --model steered --model_args pretrained={loaded},steer_path={options.output}{chat} --tasks TASKS"
    )
