"""Vocabulary projection: which words the directions of a span of layers write, and which span speaks of refusal."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.steering.directions.principal import first_component
from sa_lightning.steering.typed import floats

#: Stems of words of refusal. SCANS reads its top tokens by eye, and names `rejected`, `impossible`, `reject`, `cannot`.
REFUSAL_WORDS = (
    "cannot", "can't", "unable", "not", "won't", "reject", "refus", "declin", "deny", "denie", "denial", "impossible",
    "sorry", "apolog", "illegal", "unlawful", "harm", "harmful", "danger", "unsafe", "against", "forbid", "prohibit",
    "inappropriate", "never", "unethical", "wrong", "no", "must",
)  # fmt: skip
#: Of these, only the whole word counts: too many others begin so.
WHOLE = ("no", "not", "must", "harm")


@dataclass(frozen=True)
class Segment:
    """A span of layers and what its directions write.

    Attributes:
        layers: Consecutive layers.
        tokens: The top tokens of the first component, most probable first, of the sign with the higher score.
        opposite: Those of the other sign.
        logits: Of `tokens`: the product of the unit component with the token's row of the LM head.
        score: Share of `tokens` that are words of refusal.
    """

    layers: tuple[int, ...]
    tokens: tuple[str, ...]
    opposite: tuple[str, ...]
    logits: tuple[float, ...]
    score: float


def segments_of(layers: Sequence[int], count: int = 3) -> list[tuple[int, ...]]:
    """Cut layers into consecutive spans of like length, the longer ones last: 32 become 0-9, 10-20, 21-31 (SCANS).

    Raises:
        SettingError: If there are fewer layers than spans.
    """
    if not 1 <= count <= len(layers):
        raise SettingError(
            f"{len(layers)} layers cannot be cut into {count} segments.\nEach needs a layer.\nAsk for fewer segments."
        )
    cuts = [len(layers) * i // count for i in range(count + 1)]
    return [tuple(layers[a:b]) for a, b in itertools.pairwise(cuts)]


def project(
    directions: Float[Tensor, "layers d_model"],
    head: Float[Tensor, "vocabulary d_model"],
    decode: Callable[[int], str],
    segments: Sequence[tuple[int, ...]],
    top: int = 10,
    is_refusal: Callable[[str], bool] | None = None,
) -> list[Segment]:
    """Project the first principal component of each segment's directions on the vocabulary (SCANS, section 3.2).

    The component is uncentred, of the vectors as they are given; the final norm is not applied, as in the paper. Its
    sign is arbitrary: both are tried, and the one with more words of refusal is kept, of equals the one along which the
    directions point. Ties between tokens go to the smaller id. In float32 on the CPU, some rows of the head at a time.

    Args:
        directions: From `refusal_directions`, of all layers.
        head: The LM head's weight.
        decode: Token id to text.
        segments: From `segments_of`.
        top: How many tokens to list.
        is_refusal: Whether a token is a word of refusal; `speaks_of_refusal` if not set.

    Returns:
        One entry a segment, in their order.
    """
    said = is_refusal or speaks_of_refusal
    found: list[Segment] = []
    for layers in segments:
        rows = directions[list(layers)].double()
        component = first_component(rows)[0]
        component = component * (1 if float((rows @ component).sum()) >= 0 else -1)
        logits = torch.cat([part.detach().float().cpu() @ component.float().cpu() for part in torch.split(head, 4096)])
        sides: list[tuple[float, tuple[str, ...], tuple[float, ...]]] = []
        for sign in (1, -1):
            values, ids = (sign * logits).sort(descending=True, stable=True)
            tokens = tuple(decode(int(i)) for i in ids[:top])
            sides.append((sum(map(said, tokens)) / max(1, len(tokens)), tokens, tuple(floats(values[:top]))))
        (score, tokens, shown), other = sides if sides[0][0] >= sides[1][0] else sides[::-1]
        found.append(Segment(tuple(layers), tokens, other[1], shown, score))
    return found


def choose_segment(found: Sequence[Segment]) -> int:
    """Return the index of the segment with the highest score; of equals the one nearest to the middle, then the first.

    Raises:
        SettingError: If none writes a word of refusal: the choice would be arbitrary.
    """
    best = max(segment.score for segment in found)
    if best == 0:
        raise SettingError(
            "No segment's directions write a word of refusal: their top tokens are "
            + "; ".join(", ".join(segment.tokens[:5]) for segment in found)
            + ".\nSCANS chooses layers by these words.\nName the layers yourself: `--steering.layers`."
        )
    middle = (len(found) - 1) / 2
    return min((i for i, s in enumerate(found) if s.score == best), key=lambda i: (abs(i - middle), i))


def speaks_of_refusal(token: str) -> bool:
    """Say whether a token is a word of refusal, or begins like one.

    Example:
        >>> [speaks_of_refusal(token) for token in (" rejected", "cannot", " denied", " No")]
        [True, True, True, True]
        >>> [speaks_of_refusal(token) for token in ("note", "dense", "harmony")]
        [False, False, False]
    """
    word = _bare(token)
    return any(word == stem or (stem not in WHOLE and word.startswith(stem)) for stem in REFUSAL_WORDS)


def refusal_lexicon(words: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a token is one of these words, or begins with one that ends in a star; case does not matter.

    Example:
        >>> said = refusal_lexicon(["nein", "verweiger*"])
        >>> [said(token) for token in (" Nein", "neinsager", "verweigern")]
        [True, False, True]
    """
    known = [_bare(word) for word in words]
    whole = {word for word in known if not word.endswith("*")} - {""}
    stems = tuple({word.rstrip("*") for word in known if word.endswith("*")} - {""})
    return lambda token: _bare(token) in whole or (bool(stems) and _bare(token).startswith(stems))


def visible(token: str) -> str:
    r"""Write a token on one line, so that blanks and control characters are seen.

    Example:
        >>> print(visible(" no\n"))
        ␣no\n
    """
    return "".join("␣" if c == " " else c if c.isprintable() else c.encode("unicode_escape").decode() for c in token)


def _bare(token: str) -> str:
    return token.strip(" ▁Ġ\n").lower()
