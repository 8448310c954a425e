"""A case of the table: a good command of a verb, with one thing wrong."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import broken_models
from .forked import Ended
from .inputs import GOOD, OUTPUT

EVALUATORS = ("validate", "sweep", "compare", "lm-eval")


@dataclass(frozen=True)
class Case:
    """One command with one thing wrong.

    Attributes:
        verb: Which verb.
        wrong: What is wrong, in words; nothing, of a good command.
        changed: Options in place of those of the good command; None leaves one out.
        expect: refused (exit 2), failed (exit 1), right (exit 0), stopped (1 or 2), or either (0 or 2); all in words.
        known: Its number in the attack before.
        files: What lies in the directory where it runs, by name: bytes, or what makes it.
        good: In place of the good command of the verb.
        environment: Variables.
        check: Given where it ran, and how it ended: what is wrong with what is there now; nothing, if nothing is.
    """

    verb: str
    wrong: str
    changed: dict[str, str | None] = field(default_factory=dict)
    expect: str = "refused"
    known: str = ""
    files: dict[str, object] = field(default_factory=dict)
    good: tuple[str, ...] | None = None
    environment: dict[str, str | None] = field(default_factory=dict)
    check: Callable[[Path, Ended], str] | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.verb}: {self.wrong or 'nothing wrong'}"

    def typed(self, root: Path, place: Path) -> list[str]:
        """Make what it needs, and return what is typed."""
        for name, content in self.files.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content.replace(b"ROWS", str(root / "tasks" / "rows.jsonl").encode()))
            else:
                content(path, root)
        words = [*(self.good if self.good is not None else GOOD[self.verb])]
        if OUTPUT[self.verb]:
            words += ["--output_path" if self.verb == "lm-eval" else "--output", OUTPUT[self.verb]]
        for option, value in self.changed.items():
            if option in words:
                at = words.index(option)
                del words[at : at + 2]
            if value is not None:
                words += [option, value] if option else [value]
        return [self.verb, *(_filled(word, root, place) for word in words)]


def _filled(word: str, root: Path, place: Path) -> str:
    word = word.replace("{{", "\0").replace("}}", "\1").replace("{root}", str(root)).replace("{here}", str(place))
    while "{copy:" in word:
        name = word.partition("{copy:")[2].partition("}")[0]
        if not (place / name).exists():
            shutil.copytree(root / name, place / name)
        word = word.replace(f"{{copy:{name}}}", str(place / name))
    while "{broken:" in word:
        name = word.partition("{broken:")[2].partition("}")[0]
        word = word.replace(f"{{broken:{name}}}", str(broken_models.broken(root, name)))
    return word.replace("\0", "{").replace("\1", "}")


def load(verb: str, target: str) -> dict[str, str | None]:
    """Return what lets a verb load a model."""
    return {
        "edit": {"--base": target}, "judge": {"--judge": "harmbench", "--local.model": target},
        "quickstart": {"--world": None, "--model": target}, "compare": {"--compare.targets": f"{{{{base: '{target}'}}}}"},
        "lm-eval": {"--model_args": f"pretrained={target},device=cpu"},
        "validate": {"--model.target": target, "--artifact": None},
        "predict": {"--model.target": target, "--artifact": None},
    }.get(verb, {"--model.target": target})  # fmt: skip
