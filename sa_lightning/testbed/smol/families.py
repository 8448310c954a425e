"""Which requests are of one family, and which split each family belongs to.

Two prompts are near duplicates if their content words, cut to their stems, overlap by half or more (Jaccard index).
A family is closed under that, and under what a data set says belongs together: a subcategory, a trigger, a topic.
"""

# Word lists read better as sentences than as one quoted word a line.
# ruff: noqa: SIM905

import random
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

#: Overlap of content words from which two prompts are near duplicates.
NEAR = 0.5

_FORM = frozenset(
    """a an the to for of on in with and or that how can i what is are do does did you your my me we us our it its
    some someone somebody anyone without from by be as at this these those will would should could may might their
    they them he she his her into up out about any best most more way ways give provide create write make develop
    explain using use tutorial step steps guide instruction instructions teach detailed people person individual who
    which where when why not no if then there have has had was were been being tell get so but one article short please
    good strategy strategies method methods effective tip need like start want describe""".split()
)
_ENDING = re.compile(r"(?<=[a-z]{3})(?:ing|ers|er|ed|es|s|e)$")


def stems(prompt: str) -> frozenset[str]:
    """The content words of a prompt, cut to their stems; of a prompt without any, all its words."""
    words = re.findall(r"[a-z]+", prompt.lower().replace("'", ""))
    found = frozenset(_ENDING.sub("", word) for word in words if word not in _FORM)
    return found or frozenset(words)


def overlap(a: frozenset[str], b: frozenset[str]) -> float:
    """The Jaccard index of two sets; 0 where both are empty."""
    return len(a & b) / len(a | b) if a | b else 0.0


def families(prompts: Sequence[str], together: Sequence[Hashable | None]) -> list[int]:
    """Number the family of each prompt.

    Args:
        prompts: As they are asked.
        together: What each shares with others of its family beside words; None: nothing.

    Returns:
        A number for each; the same for two near duplicates, for two that are `together`, and for all that chains of
        these connect.
    """
    parent = list(range(len(prompts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, shared in enumerate(together):
        if shared is not None:
            parent[root(i)] = root(first.setdefault(shared, i))
    for i, j in near_duplicates([stems(prompt) for prompt in prompts]):
        parent[root(i)] = root(j)
    return [root(i) for i in range(len(prompts))]


def near_duplicates(sets: Sequence[frozenset[str]]) -> list[tuple[int, int]]:
    """Every pair (i, j), i > j, whose overlap is at least `NEAR`."""
    holders: dict[str, list[int]] = defaultdict(list)
    found = []
    for i, words in enumerate(sets):
        shared = Counter(j for word in words for j in holders[word])
        found += [(i, j) for j, n in shared.items() if n >= NEAR * (len(words) + len(sets[j]) - n)]
        for word in words:
            holders[word].append(i)
    return found


def deal(
    family: Sequence[int], stratum: Sequence[str], reserved: Sequence[bool], shares: Mapping[str, float], seed: int
) -> list[str]:
    """Deal families to splits.

    Args:
        family: The family of each prompt.
        stratum: What kind of prompt each is; each kind is dealt by the shares.
        reserved: Whether a prompt may be in the test split alone; its whole family then is.
        shares: Split to its share of what is not reserved; `test` is one of them.
        seed: Draws the order in which families are dealt: each to the split that lacks most of it.

    Returns:
        The split of each prompt.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for i, number in enumerate(family):
        members[number].append(i)
    split = ["test"] * len(family)
    free = [rows for rows in members.values() if not any(reserved[i] for i in rows)]
    total = Counter(stratum[i] for rows in free for i in rows)
    dealt: dict[str, Counter[str]] = {name: Counter() for name in shares}
    random.Random(f"{seed} families").shuffle(free)
    for rows in free:
        counts = Counter(stratum[i] for i in rows)

        def lacking(name: str, counts: Counter[str] = counts) -> float:
            return sum(n * (shares[name] - dealt[name][kind] / total[kind]) / total[kind] for kind, n in counts.items())

        chosen = max(shares, key=lacking)
        dealt[chosen].update(counts)
        for i in rows:
            split[i] = chosen
    return split
