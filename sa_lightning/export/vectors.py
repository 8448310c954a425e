"""Files of steering vectors: GGUF for llama.cpp and repeng, safetensors for all others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # its `PathLike` is bare

from sa_lightning.errors import SettingError
from sa_lightning.export.formats import Spoken

LAYER_TYPES = {"residual": "decoder_block", "mlp": "mlp", "attention": "self_attn"}


@dataclass(frozen=True)
class Shape:
    """What a file says of the model that it is for.

    Attributes:
        model_type: Of its config.
        num_layers: Number of blocks.
        d_model: Width of the stream.
        norms: Layer to typical norm of its states, as far as it is known.
    """

    model_type: str
    num_layers: int
    d_model: int
    norms: Mapping[int, float] = field(default_factory=dict[int, float])


def write_gguf(path: Path, spoken: Spoken, shape: Shape) -> None:
    """Write a control vector as llama.cpp and repeng have it: `direction.{l}`, added behind block l, counted from 0.

    llama.cpp reads the tensors from `direction.1` on, so that block 0 has none; repeng reads that, too. Whether repeng
    is to keep norms it takes from the caller, so it stands in a key of our own: `controlvector.sa.normalize`.

    Raises:
        SettingError: If the package `gguf` is not installed.
    """
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise SettingError(
            f"{path.name} is a GGUF file, but the package `gguf` is not installed.\n"
            "It writes these files.\nInstall it with `pip install 'sa_lightning[gguf]'`, or write `--to safetensors`."
        ) from error
    writer = GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", shape.model_type)
    writer.add_uint32("controlvector.layer_count", len(spoken.acts))
    writer.add_bool("controlvector.sa.normalize", any(act.kind == "step_keep_norm" for act in spoken.acts))
    for act in spoken.acts:
        writer.add_tensor(f"direction.{act.layer}", act.step.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors(path: Path, spoken: Spoken, shape: Shape) -> None:
    """Write `layers.{l}`, to be added to the output of what the metadata call `layer_type` (as steering-vectors does).

    Sites that differ take a key of their own: `layers.{l}.{layer_type}`.
    """
    sites = {act.site for act in spoken.acts}
    names = {
        act: f"layers.{act.layer}" if len(sites) == 1 else f"layers.{act.layer}.{LAYER_TYPES[act.site]}"
        for act in spoken.acts
    }
    tensors = {name: act.step.contiguous() for act, name in names.items()}
    kinds = " ".join(sorted(LAYER_TYPES[site] for site in sites))
    save_file(tensors, path, metadata={"format": "pt", "layer_type": kinds, "model_type": shape.model_type})


def write_hotwire(path: Path, spoken: Spoken, shape: Shape) -> None:
    """Write a directory for hotwire-vllm.

    `vectors/safety.pt` holds (n_layers, d_model), zero where nothing is added (`HOTWIRE_VECTORS=.../vectors`);
    `request.json` what a request says as `hotwire` in `vllm_xargs`; `h_norms.json` typical norms, where these are
    known, for its limit on doses (`HOTWIRE_H_NORMS`). The file is one of torch.save, because hotwire reads no other;
    it loads under `weights_only=True`.
    """
    bank = torch.zeros(shape.num_layers, shape.d_model)
    for act in spoken.acts:
        bank[act.layer] = act.step
    (path / "vectors").mkdir()
    torch.save(bank, path / "vectors" / "safety.pt")
    request = [{"id": "safety", "layer": act.layer, "scale": 1.0} for act in spoken.acts]
    _json(path / "request.json", request)
    if shape.norms:
        _json(path / "h_norms.json", {str(layer): norm for layer, norm in sorted(shape.norms.items())})


def write_easysteer(path: Path, spoken: Spoken, shape: Shape) -> None:
    """Write a directory for EasySteer: `spec.json`, and a GGUF file of vectors for each kind of act that it names.

    `vllm serve MODEL --steering-config spec.json`, started in that directory: the spec names its files without one.
    """
    how = {"step": ("direct", False), "step_keep_norm": ("direct", True), "ablation": ("erase", False)}
    vectors: list[dict[str, object]] = []
    for kind, (algorithm, normalize) in how.items():
        acts = tuple(act for act in spoken.acts if act.kind == kind)
        if acts:
            whole = tuple(replace(act, length=1.0) if kind == "ablation" else act for act in acts)
            write_gguf(path / f"{kind}.gguf", Spoken(whole), shape)
            told = {"source": f"{kind}.gguf", "algorithm": algorithm, "scale": 1.0, "normalize": normalize}
            when = {"prompt": "all"} if spoken.prompt_alone else {"prompt": "all", "generation": "all"}
            vectors.append({**told, "layers": [act.layer for act in acts], "apply": when})
    _json(path / "spec.json", {"vectors": vectors})


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
