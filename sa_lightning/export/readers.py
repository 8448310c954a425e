"""Exports read again: by their consumer where it is installed, else by the rule that it documents."""

import base64
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM

from sa_lightning.export.formats import FORMATS
from sa_lightning.export.vectors import LAYER_TYPES
from sa_lightning.models import locate_blocks
from sa_lightning.models.as_asked import brief

Change = Callable[[Tensor], Tensor]
#: Site and block, to what is done to the module's output, by the rule of a format.
Changes = list[tuple[str, int, Change]]
Reader = Callable[[Path, Any, Any], AbstractContextManager[Any]]
SITES = {kind: site for site, kind in LAYER_TYPES.items()}


@contextmanager
def hooked(model: Any, changes: Changes, path: str | None = None) -> Iterator[Any]:
    """Apply changes by plain forward hooks, as others do, and give the model."""
    blocks = locate_blocks(model, path)

    def hook(change: Change) -> Callable[..., Any]:
        def forward(module: Any, inputs: Any, output: Any) -> Any:
            return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

        return forward

    handles = [blocks.at(site)[layer].register_forward_hook(hook(change)) for site, layer, change in changes]  # type: ignore[arg-type]  # sites are the formats' own
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _add(vector: Tensor, keep_norm: bool = False) -> Change:
    def change(hidden: Tensor) -> Tensor:
        moved = hidden + vector.to(hidden)
        if keep_norm:
            moved = moved / moved.norm(dim=-1, keepdim=True) * hidden.norm(dim=-1, keepdim=True)
        return moved

    return change


def _erase(vector: Tensor) -> Change:
    unit = vector / vector.norm()
    return lambda hidden: hidden - (hidden @ unit.to(hidden))[..., None] * unit.to(hidden)


def _of_prompt(change: Change) -> Change:
    """At prompts alone: each reply here goes on token by token."""
    return lambda hidden: change(hidden) if hidden.shape[1] > 1 else hidden


def _directions(path: Path) -> dict[int, Tensor]:
    from gguf import GGUFReader

    found = GGUFReader(path).tensors
    return {int(one.name.split(".")[1]): torch.from_numpy(np.array(one.data)) for one in found}


def read_gguf(path: Path) -> Changes:
    """llama.cpp: `direction.{l}` is added behind block l, from block 1 on."""
    return [("residual", layer, _add(vector)) for layer, vector in _directions(path).items() if layer > 0]


def read_safetensors(path: Path) -> Changes:
    """`layers.{l}` is added to the output that the metadata name."""
    with safe_open(path, "pt") as file:
        shared = file.metadata()["layer_type"]
        parts = {name: name.split(".") for name in file.keys()}  # noqa: SIM118  # no mapping
        return [
            (SITES[part[2] if len(part) > 2 else shared], int(part[1]), _add(file.get_tensor(name)))
            for name, part in parts.items()
        ]


def read_vllm_lens(path: Path) -> Changes:
    """vllm-lens: h + scale · v, with `norm_match` h + scale · ‖h‖ · v / ‖v‖."""
    found: Changes = []
    for one in json.loads(path.read_text(encoding="utf-8")):
        told, scale = one["activations"], one["scale"]
        vectors = np.frombuffer(base64.b64decode(told["data"]), told["dtype"]).reshape(told["shape"])
        for layer, vector in zip(one["layer_indices"], torch.from_numpy(vectors.copy()), strict=True):
            added = _add(scale * vector)
            if one["norm_match"]:
                added = lambda h, v=vector, s=scale: h + s * h.norm(dim=-1, keepdim=True) * v / v.norm()  # noqa: E731  # binds the loop's values
            found.append(("residual", layer, added))
    return found


def read_hotwire(path: Path) -> Changes:
    """hotwire: each entry of the request adds `scale` times its layer's row of the vector of that name."""
    request = json.loads((path / "request.json").read_text(encoding="utf-8"))
    # What was just written here, and tensors alone: `weights_only`.
    banks = {one["id"]: torch.load(path / "vectors" / f"{one['id']}.pt", weights_only=True) for one in request}
    return [("residual", one["layer"], _add(one["scale"] * banks[one["id"]][one["layer"]])) for one in request]


def read_easysteer(path: Path) -> Changes:
    """EasySteer: `direct` adds, `erase` removes what lies along, `normalize` gives each state its norm again."""
    found: Changes = []
    for one in json.loads((path / "spec.json").read_text(encoding="utf-8"))["vectors"]:
        directions = _directions(path / one["source"])
        for layer in one["layers"]:
            vector = one["scale"] * directions[layer]
            change = _erase(vector) if one["algorithm"] == "erase" else _add(vector, one["normalize"])
            found.append(("residual", layer, change if "generation" in one["apply"] else _of_prompt(change)))
    return found


def read_vllm_hook(path: Path) -> Changes:
    """vLLM-Hook: `additive` adds `strength` times the artifact's vector, `projection` removes what lies along it."""
    found: Changes = []
    for one in json.loads((path / "spec.json").read_text(encoding="utf-8"))["ops"]:
        told = one["transform"]
        name = told["artifact"].removeprefix("sha256:")
        with safe_open(path / "artifacts" / name[:2] / f"{name}.safetensors", "pt") as file:
            vector = file.get_tensor("vector")
        change = _erase(vector) if told["kind"] == "projection" else _add(told["strength"] * vector)
        found += [("residual", layer, change) for layer in one["layers"]]
    return found


def _by_rule(read: Callable[[Path], Changes]) -> Reader:
    return lambda path, model, tokenizer: hooked(model, read(path))


@contextmanager
def _transformers(path: Path, model: Any, tokenizer: Any) -> Iterator[Any]:
    loaded: Any = AutoModelForCausalLM.from_pretrained(path, dtype=model.dtype)
    yield loaded.eval().to(model.device)


@contextmanager
def _lm_eval(path: Path, model: Any, tokenizer: Any) -> Iterator[Any]:
    from lm_eval.models.hf_steered import SteeredModel, steer

    found: Any = SteeredModel(pretrained=model, steer_path=str(path), tokenizer=tokenizer)  # type: ignore[arg-type]  # a model, too, says lm-eval's own code
    with steer(found.model, found.hook_to_steer):
        yield model


@contextmanager
def _repeng(path: Path, model: Any, tokenizer: Any) -> Iterator[Any]:
    from gguf import GGUFReader
    from repeng import ControlModel, ControlVector  # type: ignore[import-not-found]  # only where it is installed

    vector: Any = ControlVector.import_gguf(path)
    keep: Any = GGUFReader(path).get_field("controlvector.sa.normalize")
    wrapped: Any = ControlModel(model, sorted(vector.directions))
    try:
        wrapped.set_control(vector, 1.0, normalize=bool(keep.contents()))
        yield model
    finally:
        wrapped.unwrap()


@contextmanager
def _steering_vectors(path: Path, model: Any, tokenizer: Any) -> Iterator[Any]:
    from safetensors.torch import load_file
    from steering_vectors import SteeringVector  # type: ignore[import-not-found]  # only where it is installed

    with safe_open(path, "pt") as file:
        kind = file.metadata()["layer_type"]
    vectors = {int(name.split(".")[1]): vector for name, vector in load_file(path).items()}
    with SteeringVector(vectors, kind).apply(model):
        yield model


def _repeng_rule(path: Path) -> Changes:
    from gguf import GGUFReader

    keep: Any = GGUFReader(path).get_field("controlvector.sa.normalize")
    normalize = bool(keep.contents())
    return [("residual", layer, _add(vector, normalize)) for layer, vector in _directions(path).items()]


#: Format to its consumer: a package, and what loads the export with it.
CONSUMERS: dict[str, tuple[str, Reader]] = {
    "checkpoint": ("transformers", _transformers),
    "lm_eval": ("lm_eval", _lm_eval),
    "repeng": ("repeng", _repeng),
    "steering-vectors": ("steering_vectors", _steering_vectors),
}
#: Format to what reads it by the rule that its consumer documents.
RULES: dict[str, Callable[[Path], Changes]] = {
    "gguf": read_gguf,
    "repeng": _repeng_rule,
    "steering-vectors": read_safetensors,
    "safetensors": read_safetensors,
    "vllm-lens": read_vllm_lens,
    "hotwire": read_hotwire,
    "easysteer": read_easysteer,
    "vllm-hook": read_vllm_hook,
}


def reader_of(to: str) -> tuple[str, Reader]:
    """Return who reads a format here, for records, and what loads an export: (path, model, tokenizer) -> model."""
    package, found = CONSUMERS.get(to, ("", None))
    rule = f"the rule of {FORMATS[to].reader}, by hooks"
    if found is None or importlib.util.find_spec(package) is None:
        return rule, _by_rule(RULES[to])
    try:
        importlib.import_module(package)
    except Exception as error:  # of a package that is older than what is installed beside it
        if to not in RULES:
            raise
        return f"{rule} ({package} {version(package)} cannot be imported: {brief(error)})", _by_rule(RULES[to])
    return f"{package} {version(package)}", found
