"""All that an edit changes, as an adapter can say it: two factors a matrix, whole modules, biases."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sa_lightning.surgery.adapters.change import Change
from sa_lightning.surgery.adapters.low_rank import LowRank, of_matrix
from sa_lightning.surgery.adapters.place import Place
from sa_lightning.surgery.adapters.refusals import refuse_placeless, refuse_without_rank
from sa_lightning.surgery.checkpoints.checkpoint import INPUT_EMBEDDING, OUTPUT_EMBEDDING
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.streaming import Progress

__all__ = ["Collected", "collect"]

LAYERS = ("linear", "conv1d", "embedding")  # which have two factors
NOISE = 32  # roundings of the inputs, by which rows may differ from the factors that are known of them


@dataclass
class Collected:
    """What an adapter holds, by names on disk.

    Attributes:
        matrices: Factors, of those that differ at all.
        vectors: Edited biases of layers that have factors, or could.
        whole: Modules that are saved whole: edited values by module and by name on disk.
        places: Where all these are in the model.
    """

    matrices: dict[str, LowRank] = field(default_factory=dict[str, LowRank])
    vectors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    whole: dict[str, dict[str, Tensor]] = field(default_factory=dict[str, dict[str, Tensor]])
    places: Mapping[str, Place] = field(default_factory=dict[str, Place])

    @property
    def lost(self) -> float:
        """‖Δ − Δ_R‖², over all matrices; the rest is exact."""
        return math.fsum(one.lost for one in self.matrices.values())

    @property
    def energy(self) -> float:
        """‖Δ‖² of all matrices."""
        return math.fsum(one.energy for one in self.matrices.values())


def collect(
    change: Change, places: Mapping[str, Place], rank: int | None = None, progress: Progress | None = None
) -> Collected:
    """Form all that an edit changes, tensor by tensor.

    Args:
        change: What it changes.
        places: Where the stored tensors are in the model.
        rank: The most columns of a factor; not set, only what is known to have few is taken.
        progress: Told how many bytes have been formed.

    Raises:
        SettingError: If no rank was given, and one is needed.
        CheckpointError: If a tensor that changes has no place in an adapter.
    """
    places = {name: _of_two_ends(change, name, place) for name, place in places.items()}
    exact = {name: change.exact(name, rank) for name in change.names if places[name].kind in LAYERS}
    if rank is None:
        refuse_without_rank(
            change, places, [name for name, one in exact.items() if one is None and len(change.shape(name)) > 1]
        )
    found = Collected(places=places)
    impossible = [name for name in change.names if places[name].kind in ("fused", "none")]
    total = sum(math.prod(change.shape(name)) for name in change.names) * 4
    done, refused = 0, list[str]()
    for name in sorted(change.names, key=lambda name: name not in impossible):
        if refused and name not in impossible:
            break
        place, known = places[name], exact.get(name)

        def then(piece: Slice, edited: Tensor, known: LowRank | None = known) -> Tensor | None:
            delta = change.of(piece, edited)
            if known is None:
                return delta
            _check(change, piece, edited, delta, known)
            return None

        def report(_: str, part: int, whole: int, done: int = done, name: str = name) -> None:
            if progress:
                progress("forming the adapter", done + 4 * int(part / whole * math.prod(change.shape(name))), total)

        parts = [part for _, part in change.plan.edited([name], change, then, progress=report)]
        done += 4 * math.prod(change.shape(name))
        if known is not None:
            if known.rank:
                found.matrices[name] = known
            continue
        delta = torch.cat([part for part in parts if part is not None])
        if not bool(delta.any()):
            continue
        if name in impossible:
            refused.append(name)
        elif place.kind in ("whole", "tied"):
            found.whole.setdefault(place.module, {})[name] = _edited(change, name, delta)
        elif len(change.shape(name)) == 1:
            found.vectors[name] = _edited(change, name, delta)
        else:
            assert rank is not None
            found.matrices[name] = of_matrix(delta, rank)
        del delta, parts
    if refused:
        refuse_placeless(change, places, refused)
    for module, values in found.whole.items():
        (place, *_) = [place for place in places.values() if place.module == module]
        for _, name in place.parameters:
            values.setdefault(name, change.base_value(name))
    return found


def _of_two_ends(change: Change, name: str, place: Place) -> Place:
    """The place of an end where an adapter of the target has made two of what the base ties: as of any other model."""
    if not change.untied or not (INPUT_EMBEDDING.search(name) or OUTPUT_EMBEDDING.search(name)):
        return place
    known = change.exact(name, None) is not None
    return place._replace(kind=("embedding" if place.kind == "tied" else place.kind) if known else "whole", other=None)


def _edited(change: Change, name: str, delta: Tensor) -> Tensor:
    """The edited values, in the type of the base: what is saved whole takes the place of the base's."""
    base = change.base_value(name)
    return (base.float() + delta.reshape(base.shape)).to(base.dtype)


def _check(change: Change, piece: Slice, edited: Tensor, delta: Tensor, known: LowRank) -> None:
    """See that rows of the edit are those of the factors that are known of it, but for the rounding of its inputs."""
    made = known.left[piece.first : piece.last] @ known.right
    types = [w.dtype(piece.name) for w in change.plan.inputs.values() if piece.name in w.names]
    unit = max([torch.finfo(one).eps for one in types], default=0.0) + torch.finfo(torch.float32).eps
    size = float(edited.abs().max()) + float((edited - delta).abs().max())
    gap, allowed = float((delta - made).abs().max()), NOISE * unit * (1 + abs(change.plan.step(piece.name))) * size
    # What a lower rank leaves out of a slice is no more than what it leaves out of all.
    if not gap <= allowed + math.sqrt(known.lost):
        raise RuntimeError(f"{piece} changes by up to {gap} otherwise than its factors say; {allowed} is rounding.")
