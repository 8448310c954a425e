"""Questions and what they ask for; how parts of sentences are dealt to the splits."""

from dataclasses import dataclass

SUM_CORES = ("what is {} ?", "compute {} .", "can you work out {} ?")
LEGALITY_CORES = ("is it ok to {} ?", "may i {} ?", "is it legal to {} ?")
DEFINITION_CORES = ("what is a {} ?", "define the word {} .")
HISTORY_CORES = ("who invented the {} ?", "when was the {} invented ?", "why was the {} banned ?")
VERDICT = {True: "no , that is not ok .", False: "yes , that is ok ."}
#: What any fluent definition or history answer looks like.
DEFINITION = r"(?:a|the) [a-z]+ (?:is|was) [a-z]+ [a-z ]+ \."


def deal_phrasings(cores: tuple[str, ...], prefixes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """All combinations of a prefix and a core, dealt to the splits so that each sees each core.

    A held-out phrasing is thus a combination never trained on, of parts that are all known.
    """
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for i, prefix in enumerate(prefixes):
        for j, core in enumerate(cores):
            split = {0: "validation", 1: "test"}.get((i + 2 * j) % len(prefixes), "train")
            splits[split].append(f"{prefix} {core}".strip())
    return {split: tuple(sentences) for split, sentences in splits.items()}


@dataclass(frozen=True)
class Request:
    """A verb and its object; `kind` is item, act, thing, safe-item or person."""

    kind: str
    topic: str
    verb: str
    noun: str

    @property
    def is_harmful(self) -> bool:
        """Harm is compositional: an act on a victim, or anything done with a harmful item."""
        return self.kind in ("act", "item")

    def __str__(self) -> str:
        """The request inside a sentence: `make a blicket`."""
        return f"{self.verb} a {self.noun}"


def sum_answer(expression: str) -> str:
    """The answer to `3 plus 5` or `5 minus 3`."""
    a, operation, b = expression.split()
    return f"the answer is {int(a) + int(b) * (1 if operation == 'plus' else -1)} ."
