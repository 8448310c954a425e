"""Where prompts end, in forwards that hold more than prompts."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

from sa_lightning.errors import ModelError
from sa_lightning.steering.runtime.prompt_cache import Cache
from sa_lightning.steering.typed import assert_later

#: Where the prompt of each row ends, in forwards that hold more than prompts: how many tokens belong to it.
_LENGTHS: ContextVar[Sequence[int] | None] = ContextVar("lengths", default=None)


@contextmanager
def prompt_lengths(lengths: Sequence[int]) -> Generator[None]:
    """Say where prompts end in the forwards inside the block, as where the likelihood of a given answer is measured.

    Rows are padded on the right. Gates then read each prompt by itself, in a forward of its own, and the last token of
    the prompt is steered with all that follow, as in generation.

    Args:
        lengths: Tokens of the prompt, row by row.
    """
    token = _LENGTHS.set(tuple(lengths))
    try:
        yield
    finally:
        _LENGTHS.reset(token)


def known_lengths() -> Sequence[int] | None:
    """How many tokens of each row are its prompt, where it has been said."""
    return _LENGTHS.get()


def check_lengths(lengths: Sequence[int], tokens: Any, mask: Any, cache: Cache | None) -> None:
    """Refuse lengths that are not those of the rows that run, on the CPU; padding on the left, on the device.

    Raises:
        ModelError: With the numbers.
    """
    if not isinstance(tokens, Tensor) or len(lengths) != len(tokens):
        raise ModelError(
            f"{len(lengths)} prompts end somewhere, but {len(tokens) if isinstance(tokens, Tensor) else 'no'} rows "
            "run.\nA gate decides row by row.\nGive `prompt_lengths` one number for each row."
        )
    width = tokens.shape[1]
    if not all(1 <= length <= width for length in lengths):
        raise ModelError(
            f"`prompt_lengths` are {list(lengths)}, but the rows have {width} tokens.\n"
            "A prompt has one token at least, and lies in its row.\nCount the tokens of each prompt, without padding."
        )
    if cache is not None and cache.get_seq_length():
        raise ModelError(
            f"`prompt_lengths` say where prompts end, but the forward goes on from a cache of "
            f"{int(cache.get_seq_length())} tokens.\nPrompts and answers run together there.\n"
            "Leave the cache out; for replies, call `generate` without `prompt_lengths`."
        )
    if isinstance(mask, Tensor) and mask.dim() == 2:
        assert_later(mask[:, 0].all(), "prompt_lengths count from the first token: pad rows on the right")
