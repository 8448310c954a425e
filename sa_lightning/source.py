"""What a model is named by, as one string: a checkpoint, an adapter, or a sum of a base and weighted adapters."""

import math
import os
import re
from pathlib import Path
from typing import NamedTuple

from sa_lightning.errors import CheckpointError, SettingError
from sa_lightning.weight_files import Header, read_object, stored_files

__all__ = ["ADAPTER_CONFIG", "Part", "Source", "is_adapter", "is_quantised", "joined", "other_base", "parts", "read"]

ADAPTER_CONFIG = "adapter_config.json"
EXAMPLE = "BASE + ADAPTER*0.7"
MOST = 32  # parts of a sum
ROUNDED = re.compile(
    r"[-_.](bnb|bitsandbytes|gptq|awq|hqq|aqlm|exl2|fp8|nf4|w4a16|w8a8|w?[234568]-?bits?|int[48])\b", re.I
)
SAMPLES, SAMPLE = 16, 4096  # tensors of which so many bytes are compared


class Part(NamedTuple):
    """One part of a sum: a name, and the weight behind it, None where none is written."""

    name: str
    weight: float | None = None


class Source(NamedTuple):
    """A base, None where an adapter comes first, whose own base is meant; and adapters with their weights.

    The weights are θ = W + Σ wᵢ (mergeᵢ(W) − W): each adapter is merged into the plain base W.
    """

    base: str | None
    adapters: tuple[tuple[str, float], ...] = ()


def is_adapter(name: str | Path) -> bool:
    """Say whether a local directory holds a PEFT adapter; a config beside it makes it no checkpoint."""
    return os.path.isfile(os.path.join(name, ADAPTER_CONFIG))  # of a name that no file can have, too, there is none


def parts(text: str) -> list[Part]:
    """Split `BASE + ADAPTER*0.7 + ADAPTER` at its signs; names that exist, with such signs in them, stay whole.

    Raises:
        SettingError: If a part is empty or a weight is no number.
    """
    if os.path.exists(text) or not set(text) & set("+*"):
        return [Part(text)]
    words, found = text.split("+"), list[Part]()
    if len(words) > MOST:
        raise SettingError(
            f"`{text[:80]}…` has {len(words)} parts.\nA sum has {MOST} at most.\n"
            "Merge some of them, and save the result."
        )
    while words:
        longest = ((_part("+".join(words[:count]).strip()), count) for count in range(len(words), 0, -1))
        (name, weight), count = next(item for item in longest if item[1] == 1 or os.path.exists(item[0][0]))
        words = words[count:]
        found.append(Part(name, None if weight is None else _weight(weight, text)))
    if not all(part.name for part in found):
        raise SettingError(
            f"`{text}` has nothing on one side of a `+` or before a `*`.\n"
            f"A sum is written `{EXAMPLE}`.\nWrite the missing name, or take the sign out."
        )
    return found


def joined(found: list[Part]) -> str:
    """Write parts as one string, which `parts` reads as the same parts."""
    return " + ".join(name if weight is None else f"{name}*{weight!r}" for name, weight in found)


def read(text: str) -> Source:
    """Read the name of a model: which base, and which adapters with which weights.

    Raises:
        SettingError: If a part of a sum is no adapter, or a weight is no number or none at all.
    """
    first, *rest = parts(text)
    if not rest and first.weight is None and not is_adapter(first.name):
        return Source(text)
    adapters = [first, *rest] if is_adapter(first.name) else rest
    if not is_adapter(first.name) and first.weight is not None:
        raise SettingError(
            f"`{first.name}` in `{text}` has the weight {first.weight:g}, and is no adapter: there is no "
            f"`{ADAPTER_CONFIG}`.\nA base is not weighed; the adapters that are added to it are.\n"
            f"Write `{EXAMPLE}`, or check the path."
        )
    for name, _ in adapters:
        if not is_adapter(name):
            raise _no_adapter(name, first.name, text)
    base = None if is_adapter(first.name) else first.name
    return Source(base, tuple((name, 1.0 if weight is None else weight) for name, weight in adapters))


def _part(text: str) -> tuple[str, str | None]:
    """Name and weight of a part, as they are written."""
    name, star, weight = text.rpartition("*")
    weighed = star and "+" not in weight and not os.path.exists(text)
    found = (name.strip(), weight.strip()) if weighed else (text, None)
    return (os.path.expanduser(found[0]) if found[0].startswith("~") else found[0], found[1])


def _weight(written: str, text: str) -> float:
    try:
        weight = float(written)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight == 0:
        fact = "which adds nothing" if weight == 0 else "which is no number"
        raise SettingError(
            f"`{text}` has the weight `{written}`, {fact}.\n"
            "A weight says how much of an adapter is added: 1 is all of it, -1 takes it out.\n"
            f"Write a number other than 0 behind the `*`, as in `{EXAMPLE}`, or leave the part out."
        )
    return weight


def _no_adapter(name: str, first: str, text: str) -> SettingError:
    """Say why a part of a sum cannot be added."""
    if os.path.isdir(name):
        what = f"no adapter: it has no `{ADAPTER_CONFIG}`"
        why = "Only adapters are added; a sum has one base, its first part."
        remedy = "Give adapters behind the first `+`; `sa edit --harm` takes the difference of two checkpoints."
    elif os.path.exists(name):
        what, why = "a file, and no adapter", f"An adapter is a directory with `{ADAPTER_CONFIG}`."
        remedy = "Give its directory."
    else:
        what, why = "no directory here", "An adapter is added from a directory of this machine."
        remedy = "Check the path; fetch one from the Hub with `hf download REPOSITORY --local-dir DIR`."
    return SettingError(f"`{name}` in `{text}` is {what}.\n{why}\n{remedy}")


def is_quantised(name: str) -> bool:
    """Say whether a name, or the config of a local checkpoint, says that its weights are rounded to few bits."""
    try:
        config = read_object(Path(name) / "config.json") if os.path.isdir(name) else {}
    except CheckpointError:  # refused by whoever opens it
        config = {}
    return bool(config.get("quantization_config")) or ROUNDED.search(os.path.basename(name.rstrip("/"))) is not None


def other_base(adapter: str, named: str | None, given: str) -> str | None:
    """Say in one line that an adapter is added to another base than it was trained on; None if it is not.

    Two names are one base if they are the same path, end in the same name, or are checkpoints here that are equal in
    their headers and in a sample of their bytes.

    Args:
        adapter: Directory of the adapter.
        named: The base that its config names.
        given: The base that it is added to.
    """
    if not named or _same(named, given):
        return None
    if is_quantised(named):
        return (
            f"{adapter} was trained on {named}, whose weights are rounded to few bits, and is added to {given}: "
            "it has learned to make up for the rounding, too."
        )
    return f"{adapter} was trained on {named}, and is added to {given}, which is another model as far as names tell."


def _same(one: str, other: str) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    if os.path.isdir(one) and os.path.isdir(other):
        try:
            return _sample(Path(one)) == _sample(Path(other))
        except (CheckpointError, OSError):
            return False
    return _last(one) == _last(other)


def _last(name: str) -> str:
    """The last part of a path or Hub id, also of a snapshot in the Hub's cache."""
    cached = re.search(r"models--[^/]*?--([^/]+)/snapshots/", f"{os.path.realpath(name)}/")
    return (cached[1] if cached else os.path.basename(name.rstrip("/\\"))).lower()


def _sample(directory: Path) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    """Names, types and shapes of a checkpoint's tensors, with the first bytes of some of them."""
    files: dict[str, Header] = stored_files(directory)
    stored = sorted((name, file, tensor) for file, (tensors, _) in files.items() for name, tensor in tensors.items())
    found, step = list[tuple[str, str, tuple[int, ...], bytes]](), max(1, len(stored) // SAMPLES)
    for position, (name, file, tensor) in enumerate(stored):
        content = b""
        if position % step == 0:
            with (directory / file).open("rb") as stream:
                stream.seek(tensor.start)
                content = stream.read(min(tensor.size, SAMPLE))
        found.append((name, str(tensor.dtype), tensor.shape, content))
    return found
