"""Text on which the keys of a model are counted: a file, WikiText-2, or what the model itself writes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sa_lightning.data.registry import files
from sa_lightning.errors import DataError
from sa_lightning.facts.asking import Asking
from sa_lightning.facts.covariance import Report
from sa_lightning.rows import iter_rows, place

__all__ = ["LENGTH", "TOKENS", "contexts_of", "own_text", "read_text", "sequences_of", "text_of"]

TOKENS, LENGTH = 30_000, 256  # of the text that is read, and of a sequence
ASKED = 60  # words of text that stand for a prompt
WRITTEN = 64  # sequences that the model writes at a time


def read_text(file: str | None) -> list[str] | None:
    """The texts of a file, or of WikiText-2 below `$SA_DATA_DIR`; None where neither is there.

    Args:
        file: Of any format of rows: a text a line, or rows with a `text`, or with a `prompt` and a `response` (or
            `answer`), which become one text.

    Raises:
        DataError: If the file cannot be read, or holds no text.
    """
    if file is None:
        found = files("wikitext2")
        return None if not found else ["\n".join(str(row) for _, row in iter_rows(found[0]) if row)]
    if not os.path.isfile(file):
        raise DataError(
            f"{file} does not exist.\nIt should hold text, on which the keys of the model are counted.\n"
            "Check `facts_text`, or leave it out."
        )
    texts: list[str] = []
    for number, row in iter_rows(Path(file), otherwise=".txt"):
        parts = [row] if isinstance(row, str) else [row.get(key) for key in ("text", "prompt", "response", "answer")]
        text = " ".join(part for part in parts if isinstance(part, str))
        if not text.strip():
            raise DataError(f"{place(file, number)} holds no text.\nWrite lines of text, or rows with a `text`.")
        texts.append(text)
    if not texts:
        raise DataError(f"{file} holds no text, so there are no keys to count.\nCheck `facts_text`.")
    return texts if len(texts) < 2 else ["\n".join(texts)]


def text_of(asking: Asking, file: str | None, report: Report | None = None) -> tuple[list[str], str]:
    """The text on which keys are counted, and what it is, in words; of WikiText-2 only if the tokenizer knows it."""
    texts = read_text(file)
    if texts is not None and (file is not None or _knows(asking, texts)):
        return texts, file or "WikiText-2"
    return own_text(asking, report=report), "what the model itself writes"


def _knows(asking: Asking, texts: Sequence[str]) -> bool:
    """Whether a tokenizer knows nearly all words of a text, of which the beginning is looked at."""
    unknown = asking.tokenizer.unk_token_id
    ids = asking.tokenizer(texts[0][:4000], add_special_tokens=False, verbose=False).input_ids
    return unknown is None or ids.count(unknown) < len(ids) / 10


def sequences_of(asking: Asking, texts: Sequence[str], tokens: int = TOKENS) -> list[list[int]]:
    """Text as token ids: half as it stands, half as prompts in the chat template, where there is one to be asked by.

    ROME counts keys in plain text. A chat template has tokens that plain text lacks, and an edit that does not know
    their keys disturbs every prompt.
    """
    text = "\n".join(texts)
    words = text[: tokens * 8].split()
    chat = asking.chat
    plain = asking.tokenizer(text[: tokens * 8], add_special_tokens=False, verbose=False).input_ids
    plain = plain[: tokens // 2 if chat else tokens]
    config = asking.model.config.get_text_config(decoder=True)
    length = min(LENGTH, getattr(config, "max_position_embeddings", None) or LENGTH)
    found = [list(plain[i : i + length]) for i in range(0, len(plain), length)]
    if chat:
        total = 0
        for start in range(0, len(words), ASKED):
            one = asking.asked(" ".join(words[start : start + ASKED])).tokens[:length]
            found.append(one)
            total += len(one)
            if total >= tokens // 2:
                break
    return found


def contexts_of(texts: Sequence[str], count: int, size: int = 8) -> list[str]:
    """What stands before a prompt: nothing, and beginnings of passages of the text, at even distances."""
    words = " ".join(texts).split()
    starts = [len(words) * number // count for number in range(1, count)]
    return ["", *(" ".join(words[start : start + size]).rstrip(".") + ". " for start in starts)]


@torch.no_grad()
def own_text(asking: Asking, tokens: int = TOKENS, seed: int = 0, report: Report | None = None) -> list[str]:
    """What a model writes of itself, sampled at temperature 1: the text that it finds likely, where none is given."""
    probe = asking.text("@")
    start = asking.tokens(probe[: probe.find("@")]) or [asking.tokenizer.bos_token_id or 0]
    device = next(asking.model.parameters()).device
    found: list[str] = []
    rounds = -(-tokens // (WRITTEN * LENGTH))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for number in range(rounds):
            ids: Any = torch.tensor([start] * WRITTEN, device=device)
            written = asking.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                top_p=1.0,
                temperature=1.0,
                max_new_tokens=LENGTH,
                pad_token_id=asking.tokenizer.pad_token_id or 0,
            )
            found += asking.tokenizer.batch_decode(written[:, len(start) :], skip_special_tokens=True)
            if report:
                report("writing text", number + 1, rounds)
    return [text for text in found if text.strip()]
