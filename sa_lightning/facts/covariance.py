"""C = E[k kᵀ]: which keys a down projection meets in text, so that an edit disturbs them least."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from sa_lightning.errors import DataError
from sa_lightning.facts.place import DownProjection
from sa_lightning.files import cache_directory, whole_file
from sa_lightning.models import locate_blocks
from sa_lightning.steering.runtime.hooks import Stopped

__all__ = ["Report", "covariance", "inputs_of"]

Report = Callable[[str, int, int], None]
BATCH = 8  # sequences that run together


@torch.no_grad()
def covariance(
    model: nn.Module,
    places: Sequence[DownProjection],
    sequences: Sequence[Sequence[int]],
    *,
    fingerprint: str | None = None,
    report: Report | None = None,
) -> list[Tensor]:
    """The uncentred second moment of the inputs of some down projections, over all tokens of a text.

    Args:
        model: Whose.
        places: Of which blocks, first to last.
        sequences: Token ids of the text, all of one length but the last.
        fingerprint: Of the weights; with it, the result is kept in the cache, by weights, layer and tokens.
        report: Told how many tokens have been read.

    Returns:
        C of each, (d_ff, d_ff), float64, on the CPU.

    Raises:
        DataError: If there is no text.
    """
    if not sequences:
        raise DataError("There is no text to find the covariance of keys on.\nGive one: `facts_text`.")
    digest = hashlib.sha256(repr([list(one) for one in sequences]).encode()).hexdigest()
    files = {place.layer: _kept(fingerprint, place, digest) for place in places} if fingerprint else {}
    found = {layer: kept for layer, file in files.items() if (kept := _read(file)) is not None}
    missing = [place for place in places if place.layer not in found]
    if missing:
        sums: dict[int, Tensor] = {}
        done, total = 0, sum(map(len, sequences))
        for first in range(0, len(sequences), BATCH):
            batch = sequences[first : first + BATCH]
            for size in dict.fromkeys(map(len, batch)):  # no padding
                rows = [one for one in batch if len(one) == size]
                for place, keys in zip(missing, inputs_of(model, missing, torch.tensor(rows)), strict=True):
                    flat = keys.reshape(-1, keys.shape[-1]).float()
                    sums[place.layer] = sums.get(place.layer, 0) + (flat.T @ flat).double().cpu()
            done += sum(map(len, batch))
            if report:
                report("reading text", done, total)
        for place in missing:
            found[place.layer] = sums[place.layer] / total
            if place.layer in files:
                _write(files[place.layer], found[place.layer])
    return [found[place.layer] for place in places]


@torch.no_grad()
def inputs_of(
    model: nn.Module, places: Sequence[DownProjection], ids: Tensor, mask: Tensor | None = None
) -> list[Tensor]:
    """What goes into some down projections in one forward, (batch, pos, d_ff); nothing runs behind the last of them."""
    found: dict[int, Tensor] = {}

    def reader(place: DownProjection) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[place.layer] = inputs[0].detach().reshape(*ids.shape, -1)
            if len(found) == len(places):
                raise Stopped

        return hook

    handles = [place.module.register_forward_pre_hook(reader(place)) for place in places]
    blocks = locate_blocks(model)
    device = next(blocks.decoder.parameters()).device
    try:
        given = {} if mask is None else {"attention_mask": mask.to(device)}
        blocks.decoder(input_ids=ids.to(device), use_cache=False, **given)
    except Stopped:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return [found[place.layer] for place in places]


def _kept(fingerprint: str | None, place: DownProjection, digest: str) -> Path:
    return cache_directory() / "covariances" / f"{str(fingerprint)[:16]}-layer{place.layer}-{digest[:16]}.safetensors"


def _read(file: Path) -> Tensor | None:
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            return opened.get_tensor("covariance")
    except Exception:  # damaged: computed anew
        return None


def _write(file: Path, value: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as partial:
        save_file({"covariance": value.contiguous()}, partial)
