"""Demonstrations on their way into a model: a file of pairs, and the passages that they become."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from sa_lightning.errors import DataError, ModelError, SettingError
from sa_lightning.files import Json, sha256
from sa_lightning.models import PassagePair, Position, passage, render
from sa_lightning.steering import Demonstration, read_demonstrations, shuffled


class Demonstrations:
    """Pairs of a file, tokenised once for each way to read them.

    Args:
        path: The file; see `steering.read_demonstrations`.
        limit: Use only the first so many pairs.
        max_length: Most tokens a sequence may have; longer ones lose their beginning.
        skip_incomplete: Leave out rows with an empty answer instead of refusing the file.

    Attributes:
        pairs: Read by `read`.
        skipped: How many rows were left out.
        truncated: How many sequences were cut, once there are passages.
    """

    def __init__(
        self, path: str, limit: int | None = None, max_length: int | None = None, skip_incomplete: bool = False
    ) -> None:
        self.path, self.limit, self.max_length, self.skip_incomplete = path, limit, max_length, skip_incomplete
        self.pairs: list[Demonstration] = []
        self.skipped = self.truncated = 0
        self._reading: tuple[Position, int] = ("last", 1)
        self._shuffle: int | None = None
        self._passages: list[PassagePair] | None = None
        self._made_for: tuple[PreTrainedTokenizerBase, int | None] | None = None

    def read(self) -> None:
        """Read and check the pairs, once; no model is needed."""
        if not self.pairs:
            self.pairs, self.skipped = read_demonstrations(self.path, self.limit, self.skip_incomplete)

    def check(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse turns that the chat template does not write, before a model is loaded: one pair of each is tried.

        Raises:
            DataError: With the row, and what the template says.
        """
        for pair in {tuple(turn["role"] for turn in pair.conversation): pair for pair in reversed(self.pairs)}.values():
            with _placed(pair):
                render(tokenizer, pair.messages("safe"))

    def read_at(self, position: Position, tokens: int, shuffle: int | None = None) -> None:
        """Say where states will be read, as `models.passage` takes it, and whether sides are to differ in nothing.

        Args:
            position: Where.
            tokens: How many tokens are averaged there.
            shuffle: Seed by which the sides are made equal, as a control (`steering.shuffled`); None leaves them.

        Raises:
            SettingError: If a single pair is to be shuffled.
        """
        if (position, tokens, shuffle) != (*self._reading, self._shuffle):
            self._reading, self._shuffle, self._passages = (position, tokens), shuffle, None
        if self.count < 1:
            raise SettingError(
                f"`steering.control` is shuffled, and there is {len(self.pairs)} pair.\n"
                "Pairs exchange their members, so two are needed.\nGive more demonstrations, or another control."
            )

    @property
    def asked(self) -> bool:
        """Whether the pairs are questions without answers."""
        return bool(self.pairs) and self.pairs[0].role == "user"

    @property
    def count(self) -> int:
        """How many pairs are read; of shuffled ones, an even number."""
        return len(self.pairs) - (len(self.pairs) % 2 if self._shuffle is not None else 0)

    @property
    def provenance(self) -> Json:
        """What the artifact says about its demonstrations."""
        return {
            "file": Path(self.path).name,
            "sha256": sha256(self.path),
            "pairs": self.count,
            "role": self.pairs[0].role,
            "skipped": self.skipped,
            "truncated": self.truncated,
        }

    def passages(self, tokenizer: PreTrainedTokenizerBase, most: int | None = None) -> list[PassagePair]:
        """Tokenise every pair, once for the same tokenizer and length; count sequences that were cut.

        Args:
            tokenizer: From `load_tokenizer`.
            most: Tokens the model was built for.
        """
        made_for, self._made_for = self._made_for, (tokenizer, most)
        if self._passages is None or made_for is None or made_for[0] is not tokenizer or made_for[1] != most:
            limit = min(filter(None, (self.max_length, most)), default=None)
            self._passages = []
            for pair in self.pairs:
                with _placed(pair):
                    safe, unsafe = (
                        passage(tokenizer, pair.messages(side), *self._reading, max_length=limit)
                        for side in ("safe", "unsafe")
                    )
                self._passages.append((safe, unsafe))
            if self._shuffle is not None:
                self._passages = shuffled(self._passages, self._shuffle)
            self.truncated = sum(member.cut for pair in self._passages for member in pair)
        return self._passages

    def fingerprint(self, passages: list[PassagePair]) -> str:
        """Identify the tokens that are run, and where they are read."""
        found = hashlib.sha256()
        for pair in passages:
            found.update(repr([(member.ids, member.read) for member in pair]).encode())
        return found.hexdigest()


@contextmanager
def _placed(pair: Demonstration) -> Iterator[None]:
    """Say of which row an error is."""
    try:
        yield
    except (DataError, ModelError) as error:
        raise DataError(f"{pair.place}: {error}") from error
