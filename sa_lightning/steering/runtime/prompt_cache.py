"""What is done to a KV cache around a prompt that is looked at: tokens taken off it, and some put back."""

import inspect
from collections.abc import Hashable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from sa_lightning.errors import ModelError


@runtime_checkable
class Cache(Protocol):
    """What is asked of a KV cache of transformers; of some kinds it has `layers`, which differ in what they hold."""

    def get_seq_length(self) -> int | Tensor: ...

    def crop(self, count: int, /) -> None: ...


def real_tokens(mask: Any, count: int) -> Tensor | None:
    """Which of the first tokens are no padding, shape (batch, pos), of a mask of any kind; None without one."""
    if _is_mapping(mask):  # one for each kind of layer
        mask = mask.get("full_attention")
    if not isinstance(mask, Tensor):
        return None
    if mask.dim() == 4:  # (batch, heads, queries, keys), as for a static cache: what the last token looks at
        mask = mask[:, 0, -1, :count]
        mask = mask == 0 if mask.is_floating_point() else mask
    return mask.long()


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def cache_of(found: Mapping[str, Any]) -> Cache | None:
    """The KV cache among the arguments, or in the output, of a forward; transformers has renamed it."""
    cache = found.get("cache")
    return found.get("past_key_values") if cache is None else cache


class Forward:
    """What the forward of a model takes.

    Attributes:
        takes: Which of the arguments that not all models have.
        cache: The name of the KV cache.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = list(inspect.signature(model.forward).parameters)
        self.takes = {name for name in ("position_ids", "logits_to_keep") if name in self._names}
        self.cache = "cache" if "cache" in self._names else "past_key_values"  # transformers renamed it in 5.2x

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments by their names."""
        return {**dict(zip(self._names, args, strict=False)), **kwargs}


def remember_past(cache: Cache | None) -> None:
    """Let layers that forget what lies before a window keep it, until they are cropped for the last time."""
    for layer in getattr(cache, "layers", ()):
        if hasattr(layer, "activate_past_recording"):
            layer.activate_past_recording()


def forget_past(cache: Cache) -> None:
    """Let the same layers go back to what their window holds, and go on as they would have."""
    recording = [layer for layer in getattr(cache, "layers", ()) if hasattr(layer, "record_past")]
    for layer in recording:
        layer.crop(0)
        layer.record_past = False


class Kept(NamedTuple):
    """What the last tokens have left in one tensor of a cache.

    Attributes:
        owner: What holds the tensor, which may be another one later.
        name: Its name there.
        dim: Along which it grows.
        places: Where the tokens lie in it; none where they are the last.
        values: What is kept.
    """

    owner: MutableMapping[Any, Any]
    name: Hashable
    dim: int
    places: Tensor | None
    values: Tensor


def last_of(cache: Cache, count: int) -> list[Kept]:
    """Copy what the last tokens have left in each layer that keeps tokens as plain tensors.

    Raises:
        ModelError: If a layer cannot go back: a full window of fixed size, or a recurrent state, has lost what was.
    """
    layers = getattr(cache, "layers", ())
    lost = {type(layer).__name__ for layer in layers if not getattr(layer, "is_croppable", True)}
    if lost:
        raise _cannot(cache, f"{', '.join(sorted(lost))} has lost what lies before")
    found: list[Kept] = []
    for layer in layers:
        end = getattr(layer, "cumulative_length", None)  # a tensor where a layer is longer than what is in it
        for owner, name, dim in _growing(layer):
            now = owner[name]
            if isinstance(end, Tensor):
                places = torch.arange(count, device=now.device) + (end.to(now.device) - count)
                found.append(Kept(owner, name, dim, places, now.index_select(dim, places)))
            else:
                found.append(Kept(owner, name, dim, None, now.narrow(dim, now.shape[dim] - count, count).clone()))
    return found


def put_back(kept: list[Kept], rows: Tensor) -> None:
    """Write what `last_of` kept over the last tokens of some rows, given as booleans of shape (batch,)."""
    for owner, name, dim, places, before in kept:
        now, count = owner[name], before.shape[dim]
        chosen = rows.to(now.device).view(-1, *[1] * (now.dim() - 1))
        if places is None:
            end = now.narrow(dim, now.shape[dim] - count, count)
            end.copy_(torch.where(chosen, before, end))
        else:
            now.index_copy_(dim, places, torch.where(chosen, before, now.index_select(dim, places)))


def crop(cache: Cache, count: int) -> None:
    """Take the last tokens off a cache of any kind.

    Raises:
        ModelError: If it cannot be cropped.
    """
    try:
        cache.crop(-count)
    except (RuntimeError, ValueError, AttributeError) as error:  # transformers' two refusals; a layer without `crop`
        raise _cannot(cache, str(error)) from error


def _cannot(cache: Cache, why: str) -> ModelError:
    return ModelError(
        f"Tokens cannot be taken off a {type(cache).__name__}: {why}\n"
        "Where a gate decides, the last token of the prompt runs again, and what a gate appends is taken off.\n"
        "Use a model, and a `cache_implementation`, whose cache can be cropped; behind a sliding window, `generate`."
    )


def _growing(layer: object) -> Iterator[tuple[MutableMapping[Any, Any], Hashable, int]]:
    """Tensors of a layer that grow with every token: keys and values, and inputs of convolutions."""
    own = vars(layer)
    for name in ("keys", "values"):
        if isinstance(own.get(name), Tensor) and own[name].dim() == 4:
            yield own, name, -2
    convolved: dict[Hashable, Any] | Tensor | None = own.get("conv_states")
    if isinstance(convolved, dict):
        for name, states in convolved.items():
            if isinstance(states, Tensor):
                yield convolved, name, -1
