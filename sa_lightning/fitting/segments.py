"""Which third of the layers is steered: one that is named, or the one whose directions write words of refusal."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.files import Json
from sa_lightning.models import Target
from sa_lightning.steering import choose_segment, project, segments_of
from sa_lightning.steering.directions.vocabulary import refusal_lexicon, speaks_of_refusal

SegmentName = Literal["none", "vocabulary", "first", "middle", "last"]
PLACES = ("first", "middle", "last")


def check_segment(
    segment: SegmentName, words: Sequence[str] | None, layers: Any, choose_layers: int | None, strength: Any
) -> None:
    """Refuse a segment beside other choices of layers, and words that nothing asks for.

    Raises:
        SettingError: With the two settings that cannot both be meant.
    """
    if words is not None and (segment != "vocabulary" or not any(word.strip(" *") for word in words)):
        raise SettingError(
            f"`steering.refusal_words` are {list(words)}, with `steering.segment` {segment}.\n"
            "They are the words by which a segment is chosen.\n"
            "Name some, with `--steering.segment vocabulary`, or leave them out for those of the package."
        )
    others = {"layers": layers is not None, "choose_layers": choose_layers is not None}
    others["strength per layer"] = isinstance(strength, dict)
    if segment != "none" and any(others.values()):
        raise SettingError(
            f"`steering.segment` is {segment}, beside {', '.join(name for name, there in others.items() if there)}.\n"
            "A segment says which layers are steered, and so do these.\nLeave one of the two out."
        )


def check_vocabulary(segment: SegmentName, depth: int, sharded: bool) -> None:
    """Refuse a model that cannot be cut into segments, or whose directions cannot be projected.

    Raises:
        SettingError: If it has too few layers, or its output head is split over processes.
    """
    if segment != "none":
        segments_of(range(depth), len(PLACES))
    if segment == "vocabulary" and sharded:
        raise SettingError(
            "`--steering.segment vocabulary` with `--trainer.strategy sharded`.\n"
            "Directions are projected on the whole output head, which a split model does not hold.\n"
            "Name the segment, `first`, `middle` or `last`, or leave one of the two out."
        )


def chosen_segment(
    segment: SegmentName, directions: Tensor, target: Target | None, words: Sequence[str] | None
) -> tuple[list[int], Json | None]:
    """Return the layers of the segment, and what the directions of every segment write where it is chosen by that.

    Args:
        segment: Not `none`.
        directions: Of all layers, shape (layers, d_model).
        target: The model, whose output head is read.
        words: Of refusal, or None for those of the package.

    Returns:
        The layers, and for an artifact: `steered`, the index of the segment, and `segments`, each with `layers`,
        `score`, `tokens` with their `logits` and whether each is of `refusal`, and the `opposite` tokens.

    Raises:
        ModelError: If the model has no output head over its vocabulary.
        SettingError: If no segment writes a word of refusal.
    """
    parts = segments_of(range(len(directions)), len(PLACES))
    if segment != "vocabulary":
        return list(parts[PLACES.index(segment)]), None
    said = speaks_of_refusal if words is None else refusal_lexicon(words)
    assert target is not None
    tokenizer: Any = target.tokenizer
    head = _head(target.network, directions.shape[-1])[: len(tokenizer)]  # heads are padded to round sizes

    def decode(token: int) -> str:
        return tokenizer.decode([token])

    found = project(directions, head, decode, parts, is_refusal=said)
    steered = choose_segment(found)
    segments = [
        {
            "layers": list(one.layers),
            "score": one.score,
            "tokens": list(one.tokens),
            "logits": [round(value, 6) for value in one.logits],
            "refusal": [said(token) for token in one.tokens],
            "opposite": list(one.opposite),
        }
        for one in found
    ]
    return list(found[steered].layers), {"steered": steered, "segments": segments}


def _head(network: Any, d_model: int) -> Tensor:
    head = network.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or weight.shape[-1] != d_model:
        shape = tuple(weight.shape) if isinstance(weight, Tensor) else "no weight"
        raise ModelError(
            f"{type(network).__name__} has no output head with a row of {d_model} numbers per token ({shape}).\n"
            "Directions are projected on it to see which words they write.\n"
            "Name the segment: `--steering.segment first`, `middle` or `last`."
        )
    return weight
