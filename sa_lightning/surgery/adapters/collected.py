"""All that an edit changes, as an adapter can say it: two factors a matrix, whole modules, biases."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sa_lightning.errors import CheckpointError, SettingError
from sa_lightning.surgery.adapters.change import Change
from sa_lightning.surgery.adapters.low_rank import LowRank, of_matrix, spectrum
from sa_lightning.surgery.adapters.place import Place
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.streaming import Progress

__all__ = ["Collected", "collect"]

LAYERS = ("linear", "conv1d", "embedding")  # which have two factors
SAMPLED = 6  # matrices whose singular values are looked at where no rank is given
RANKS = (1, 4, 8, 16, 32, 64, 128, 256)  # that are told of then
NOISE = 32  # roundings of the inputs, by which rows may differ from the factors that are known of them


@dataclass
class Collected:
    """What an adapter holds, by names on disk.

    Attributes:
        matrices: Factors, of those that differ at all.
        vectors: Edited biases of layers that have factors, or could.
        whole: Modules that are saved whole: edited values by module and by name on disk.
        measured: Matrices whose factors were found by their singular values, and not known beforehand.
    """

    matrices: dict[str, LowRank] = field(default_factory=dict[str, LowRank])
    vectors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    whole: dict[str, dict[str, Tensor]] = field(default_factory=dict[str, dict[str, Tensor]])
    measured: int = 0

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
    exact = {name: change.exact(name, rank) for name in change.names if places[name].kind in LAYERS}
    if rank is None:
        _refuse_without_rank(
            change, places, [name for name, one in exact.items() if one is None and _wide(change, name)]
        )
    found = Collected()
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
            found.measured += 1
        del delta, parts
    if refused:
        _refuse(change, places, refused)
    for module, values in found.whole.items():
        (place, *_) = [place for place in places.values() if place.module == module]
        for _, name in place.parameters:
            values.setdefault(name, change.base.read(name))
    return found


def _wide(change: Change, name: str) -> bool:
    return len(change.shape(name)) > 1


def _edited(change: Change, name: str, delta: Tensor) -> Tensor:
    """The edited values, in the type of the base: what is saved whole takes the place of the base's."""
    base = change.base.read(name)
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


def _refuse_without_rank(change: Change, places: Mapping[str, Place], names: list[str]) -> None:
    """Refuse an edit of no known rank, and say what each rank would hold of some matrices of it."""
    step = max(1, len(names) // SAMPLED)
    order = [*names[step // 2 :: step], *names]  # spread over the model; the others only where these do not change
    found = list[Tensor]()
    for name in dict.fromkeys(order):
        delta = torch.cat([part for _, part in change.plan.edited([name], change, change.of)])
        if bool(delta.any()):
            found.append(spectrum(delta))
        if len(found) == SAMPLED:
            break
    if not found:
        return
    change.plan.statistics.clear()
    energy = math.fsum(float(one.sum()) for one in found)
    told = list[str]()
    for rank in (rank for rank in RANKS if rank < max(len(one) for one in found)):
        error = math.sqrt(math.fsum(float(one[rank:].sum()) for one in found) / energy)
        shapes = [change.shape(name) for name in places if name in change.names and _wide(change, name)]
        entries = sum(min(rank, *shape) * sum(shape) for shape in shapes if len(shape) == 2)
        told.append(f"  --rank {rank}: an error of about {100 * error:.2g} %, at most {4 * entries / 1e6:,.1f} MB")
        if error < 1e-4:
            break
    raise SettingError(
        f"The edit of {change.target.source} is not known to be of low rank, so an adapter holds a part of it only.\n"
        f"In {len(found)} of its matrices, the part that is lost of the change's length is:\n"
        + "\n".join(told)
        + "\nChoose one, or write the whole edit as a checkpoint: `--format checkpoint`."
    )


def _refuse(change: Change, places: Mapping[str, Place], names: list[str]) -> None:
    fused = [name for name in names if places[name].kind == "fused"]
    what = "holds several matrices in one tensor, such as experts" if fused else "belongs to no module of its own"
    first = (fused or names)[0]
    leaf = ".".join(part for part in first.split(".")[-2:])
    raise CheckpointError(
        f"The edit changes {len(names)} tensors of {change.target.source} that PEFT has no adapter for, such as "
        f"`{first}`, which {what}.\nThe adapter would be another model than the edit.\n"
        f"Leave them out (`--scope.exclude '[\"*{leaf}\"]'`), or write a checkpoint: `--format checkpoint`."
    )
