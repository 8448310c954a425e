"""What requests to engines carry: steering vectors of vllm-lens, and a spec of vLLM-Hook with its artifacts."""

import base64
import hashlib
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from sa_lightning.export.acts import Act
from sa_lightning.export.formats import Spoken
from sa_lightning.export.vectors import Shape


def write_vllm_lens(path: Path, spoken: Spoken, shape: Shape) -> None:
    """Write a list of vllm-lens's `SteeringVector`s as JSON: the value of `apply_steering_vectors` in `vllm_xargs`.

    Steps have `scale` 1. Fractions of a state's norm have `norm_match`, which forgets the vector's length, so that
    each fraction has an object of its own.
    """
    del shape  # a request says nothing of the model
    found: list[dict[str, Any]] = []
    keys = sorted(spoken.acts, key=_scale)
    for (relative, scale), group in groupby(keys, key=_scale):
        acts = sorted(group, key=lambda act: act.layer)
        vectors = torch.stack([act.direction if relative else act.step for act in acts])
        told = {"layer_indices": [act.layer for act in acts], "scale": scale, "norm_match": relative}
        found.append({"activations": _tensor(vectors), **told, "position_indices": None})
    path.write_text(json.dumps(found) + "\n", encoding="utf-8")


def _scale(act: Act) -> tuple[bool, float]:
    relative = act.kind == "relative_step"
    return relative, act.length if relative else 1.0


def _tensor(values: torch.Tensor) -> dict[str, Any]:
    """A tensor as vllm-lens takes it without compression."""
    data = base64.b64encode(values.float().contiguous().numpy().tobytes()).decode()
    return {"data": data, "dtype": "float32", "original_dtype": "torch.float32", "shape": list(values.shape)}


def write_vllm_hook(path: Path, spoken: Spoken, shape: Shape) -> None:
    """Write `spec.json`, an `intervention_spec` of vLLM-Hook, and the artifacts that it names by their SHA-256.

    These lie as its registry has them, `artifacts/{first two digits}/{sha}.safetensors`, and may also be sent to
    `PUT /v1/hook/artifacts/{id}`.
    """
    del shape
    operations: list[dict[str, Any]] = []
    for act in spoken.acts:
        ablated = act.kind == "ablation"
        identifier = _keep(path / "artifacts", act.direction if ablated else act.step)
        transform = {"kind": "projection"} if ablated else {"kind": "additive", "strength": 1.0}
        told = {"layers": [act.layer], "transform": {**transform, "artifact": identifier}, "scope": {"kind": "all"}}
        operations.append(told)
    (path / "spec.json").write_text(json.dumps({"ops": operations}, indent=1) + "\n", encoding="utf-8")


def _keep(root: Path, vector: torch.Tensor) -> str:
    content = save({"vector": vector.contiguous()})
    found = hashlib.sha256(content).hexdigest()
    place = root / found[:2]
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{found}.safetensors").write_bytes(content)
    tensors = {"vector": {"dtype": "float32", "shape": list(vector.shape)}}
    beside = {"format_version": 1, "tensors": tensors, "meta": {}}
    (place / f"{found}.json").write_text(json.dumps(beside) + "\n", encoding="utf-8")
    return f"sha256:{found}"
