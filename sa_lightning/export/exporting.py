"""From an artifact to what another program reads, with the proof beside it."""

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sa_lightning.errors import ArtifactError, SettingError
from sa_lightning.export.checkpoint import baked, write_checkpoint
from sa_lightning.export.formats import FORMATS, Spoken, spoken
from sa_lightning.export.lm_eval_file import write_hooks
from sa_lightning.export.proof import Prompts, Proof, proof
from sa_lightning.export.readers import reader_of
from sa_lightning.export.requests import write_vllm_hook, write_vllm_lens
from sa_lightning.export.vectors import Shape, write_easysteer, write_gguf, write_hotwire, write_safetensors
from sa_lightning.files import Json, sha256, whole_directory, whole_file, write_whole
from sa_lightning.fitting import Surgery
from sa_lightning.models import load_config, load_model, load_tokenizer
from sa_lightning.models.loading import DType
from sa_lightning.names import resolve_worlds
from sa_lightning.resources import versions
from sa_lightning.steered import steer
from sa_lightning.steering import SteeringArtifact, weights_fingerprint

RECORD = "export.json"
WRITERS: dict[str, Callable[[Path, Spoken, Shape], None]] = {
    "gguf": write_gguf,
    "repeng": write_gguf,
    "steering-vectors": write_safetensors,
    "safetensors": write_safetensors,
    "vllm-lens": write_vllm_lens,
    "hotwire": write_hotwire,
    "easysteer": write_easysteer,
    "vllm-hook": write_vllm_hook,
}


@dataclass(frozen=True)
class Settings:
    """What is exported, and how.

    Attributes:
        to: A name in `FORMATS`.
        weights: `original` or `edited`: for which weights, and of a checkpoint, which ones.
        model: Directory or Hub id of the model; the artifact's own if not set.
        approximate: Say what comes near where the format cannot say it.
        check: Load the result and compare its logits with those of our hooks.
        dtype: Of the weights, as in the fit.
        trust_remote_code: Run Python code that comes with the model.
    """

    to: str
    weights: str = "original"
    model: str | None = None
    approximate: bool = False
    check: bool = True
    dtype: DType = "auto"
    trust_remote_code: bool = False


def record_of(output: Path, to: str) -> Path:
    """Return where the record of an export is: in its directory, or beside its file."""
    return output.with_name(f"{output.name}.{RECORD}") if FORMATS[to].suffix else output / RECORD


def check_output(output: Path, to: str) -> None:
    """Refuse a name that the reader would not know the format by.

    Raises:
        SettingError: With a name that it would.
    """
    suffix = FORMATS[to].suffix
    if suffix and output.suffix not in {suffix, ".pth" if suffix == ".pt" else suffix}:
        raise SettingError(
            f"The file is to be called {output.name}, which does not end in {suffix}.\n"
            f"{FORMATS[to].reader} knows the format by that.\nWrite `--output steer{suffix}`."
        )
    if output.exists():
        raise SettingError(
            f"{output} exists already.\nResults are not written over by accident.\nChoose another `--output`."
        )


def export(artifact: SteeringArtifact, output: str | Path, settings: Settings) -> Json:
    """Write an artifact in a format of others, load it again, and compare.

    Args:
        artifact: From `sa fit`.
        output: The file or directory, which appears when it is complete and was checked.
        settings: Format, weights, and whether to approximate.

    Returns:
        The record that was written beside it: what was approximated, and the largest difference of a logit.

    Raises:
        ArtifactError: If the format cannot say it, or what was loaded again is not what was measured.
        ModelError: If a checkpoint of this family has no place for a step.
        NothingToDoError: If no layer is steered.
        SettingError: If the output is there, or has a name by which it would not be known.
    """
    output = Path(output)
    check_output(output, settings.to)
    found = spoken(artifact, settings.weights, settings.to, settings.approximate)
    source = resolve_worlds(settings.model or artifact.model, 0, quiet=True)
    config: Any = load_config(source, trust_remote_code=settings.trust_remote_code)
    text = config.get_text_config(decoder=True)
    artifact.check_model(text.num_hidden_layers, text.hidden_size, settings.model or artifact.model)
    norms = next(iter(artifact.rules.values())).typical_norms.get(settings.weights, {})
    shape = Shape(text.model_type, text.num_hidden_layers, text.hidden_size, norms)
    model = _Model(artifact, source, settings) if settings.check or settings.to == "checkpoint" else None

    def write(place: Path) -> None:
        if settings.to == "checkpoint":
            assert model is not None
            write_checkpoint(baked(model.network, found.acts, artifact.blocks), model.own_tokenizer(), place)
        elif settings.to == "lm_eval":
            write_hooks(place, found, config, source, artifact.blocks, settings.trust_remote_code)
        else:
            WRITERS[settings.to](place, found, shape)

    with ExitStack() as stack:
        directory = not FORMATS[settings.to].suffix
        if directory:
            place = stack.enter_context(whole_directory(output))
        else:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / output.name
        write(place)
        proven = model.prove(place) if model is not None and settings.check else None
        if proven is not None and not found.approximated:
            proven.check(settings.to)
        record = _record(artifact, settings, found, proven, place)
        text_of = json.dumps(record, indent=2) + "\n"
        if directory:
            (place / RECORD).write_text(text_of, encoding="utf-8")
        else:
            with whole_file(output) as partial:
                shutil.copyfile(place, partial)
            write_whole(record_of(output, settings.to), text_of)
    return record


class _Model:
    """The model of a fit, with the weights that are meant, and its logits under our hooks."""

    def __init__(self, artifact: SteeringArtifact, source: str, settings: Settings) -> None:
        self.artifact, self.settings = artifact, settings
        self.tokenizer: Any = load_tokenizer(
            source,
            artifact.template,
            arguments=artifact.template_arguments,
            system_prompt=artifact.system_prompt,
            trust_remote_code=settings.trust_remote_code,
        )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network: Any = load_model(
            source, dtype=settings.dtype, device=device, trust_remote_code=settings.trust_remote_code
        )
        known, wanted = artifact.fingerprints[settings.weights], settings.weights
        if weights_fingerprint(self.network) != known and wanted == "edited" and artifact.surgery is not None:
            surgery = Surgery.from_record(artifact.surgery)
            surgery.open(source)
            surgery.apply(self.network, self.tokenizer, settings.dtype)
        if weights_fingerprint(self.network) != known:
            raise ArtifactError(
                f"{source} has other weights than the `{wanted}` ones that this artifact was fitted on.\n"
                "Directions fitted on one set of weights are not measured on another; another dtype counts as "
                "different.\nGive those weights, `--model` and `--dtype`"
                + (", or leave the check out, `--check false`." if settings.to != "checkpoint" else ".")
            )

    def own_tokenizer(self) -> Any:
        """The tokenizer as it came, without our template."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            self.tokenizer.name_or_path, trust_remote_code=self.settings.trust_remote_code
        )

    def prove(self, place: Path) -> Proof:
        """Compare what lies at a place with our hooks, in float32, in which nothing hides behind rounding."""
        self.network.float()
        known = {**self.artifact.fingerprints, self.settings.weights: weights_fingerprint(self.network)}
        artifact = replace(self.artifact, fingerprints=known)
        rules = self.artifact.rules.values()
        prompts = Prompts(self.tokenizer, any(rule.gate is not None or rule.only_prompt for rule in rules))
        with steer(self.network, artifact):
            steered = prompts.logits(self.network, reply=True)
        plain = prompts.logits(self.network)
        consumer, load = reader_of(self.settings.to)
        return proof(prompts, steered, plain, consumer, load(place, self.network, self.tokenizer))


def _record(artifact: SteeringArtifact, settings: Settings, found: Spoken, proven: Proof | None, place: Path) -> Json:
    files = sorted(one for one in place.rglob("*") if one.is_file()) if place.is_dir() else [place]
    names = {one: str(one.relative_to(place)) if place.is_dir() else one.name for one in files}
    return {
        "schema": 1,
        "to": settings.to,
        "reader": FORMATS[settings.to].reader,
        "model": artifact.model,
        "weights": settings.weights,
        "artifact": artifact.digest(),
        "steps": [{"site": act.site, "layer": act.layer, "kind": act.kind} for act in found.acts],
        "approximated": list(found.approximated),
        "rates": "not measured on the export",
        "check": None if proven is None else proven.as_dict(),
        "files": {names[one]: sha256(one) for one in files},
        "versions": versions(),
    }
