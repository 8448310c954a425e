"""Passages: the token ids of a conversation, and at which of them states are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from sa_lightning.errors import DataError, ModelError
from sa_lightning.models.chat import Message, render, tokenize

Position = Literal["last", "first_response", "end_of_instruction", "end_of_prompt"]
MARK = "sa-marks-this-place-9d41"  # stands in for a message, to see what the template puts around it


@dataclass(frozen=True)
class Passage:
    """A sequence to run a decoder over, and where to read.

    Attributes:
        ids: Token ids, up to the last that is read.
        read: Indices into them; the states there are averaged.
        cut: Whether tokens were left out at the beginning.
    """

    ids: list[int]
    read: tuple[int, ...]
    cut: bool = False


PassagePair = tuple[Passage, Passage]


def passage(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    position: Position = "last",
    tokens: int = 1,
    max_length: int | None = None,
) -> Passage:
    """Tokenise a conversation and find where its states are to be read.

    Args:
        tokenizer: From `load_tokenizer`.
        messages: The conversation, ended by an answer, or by a question that is still to be answered.
        position: `last` is the last token, of the answer or, without one, of the template's generation prompt;
            `first_response` the first token of the answer; `end_of_prompt` the token before it, where the template
            ends; `end_of_instruction` the last token of the user's last message, before what the template puts
            behind it. The latter three are found by what the template writes around a message.
        tokens: With `last`, how many last tokens to read; a shorter passage gives all it has.
        max_length: Most tokens to keep, from the end (`tokenize`).

    Raises:
        ModelError: If the template does not show where a message begins or ends, or the tokenizer does not say
            which characters a token covers.
        DataError: If the position was cut off, or there is no answer to find it in.
    """
    ids, cut = tokenize(tokenizer, messages, max_length)
    if position == "last":
        return Passage(ids, tuple(range(max(0, len(ids) - tokens), len(ids))), cut)
    answered = messages[-1]["role"] == "assistant"
    if not answered and position == "first_response":
        raise DataError(
            "These demonstrations are prompts without answers, so there is no first token of a response.\n"
            "States are read where the model is about to answer.\n"
            "Read `--steering.position end_of_prompt` or `end_of_instruction`."
        )
    spans = _spans(tokenizer, render(tokenizer, messages))
    if position == "end_of_instruction":
        _, end = _place(tokenizer, messages, -2 if answered else -1)
        index = max((i for i, (start, _) in enumerate(spans) if start < end), default=-1)
    elif answered:
        begin, _ = _place(tokenizer, messages, -1)
        first = next((i for i, (_, end) in enumerate(spans) if end > begin), len(spans))
        index = first if position == "first_response" else first - 1
    else:
        index = len(spans) - 1
    # Where tokens were left out, a leading BOS was kept, and stands for itself alone.
    bos = int(cut and ids[0] == tokenizer.bos_token_id)
    kept = index - (len(spans) - len(ids)) if index > 0 or not bos else 0
    if index < 0 or kept < (bos if index else 0):
        raise DataError(
            f"The {position.replace('_', ' ')} is token {index} of {len(spans)}, but only the last {len(ids) - bos} "
            "are kept.\nStates cannot be read at a token that was cut off.\n"
            "Keep more with `--data.max_length`, or leave the longest demonstrations out."
        )
    return Passage(ids[: kept + 1], (kept,), cut)  # no token sees those behind it


def template_tail(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any] | None = None) -> str | None:
    """Return what the template writes between the words of the user and the reply; None if it does not show that.

    Args:
        tokenizer: With a chat template.
        arguments: Handed to the template, instead of the tokenizer's own.
    """
    _, mark, tail = render(tokenizer, [{"role": "user", "content": MARK}], arguments).partition(MARK)
    return tail if mark and MARK not in tail else None


def _spans(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Which characters each token covers."""
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not say which characters a token covers.\n"
            "Positions inside of a conversation are found by them.\n"
            "Use a tokenizer with a tokenizer.json, or read at the last token: `--steering.position last`."
        )
    return tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True).offset_mapping


def _place(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], place: int) -> tuple[int, int]:
    """From which character to which the text has the content of one message, blanks around it left out.

    Raises:
        ModelError: If the template does not write the content exactly once, as it is.
    """
    content = messages[place]["content"]
    marked = [dict(message) for message in messages]
    marked[place]["content"] = MARK
    before, _, after = render(tokenizer, marked).partition(MARK)
    text = render(tokenizer, messages)
    for written in (content, content.strip()):
        if text == before + written + after:
            begin = len(before) + len(written) - len(written.lstrip())
            return begin, begin + len(content.strip())
    raise ModelError(
        f"The chat template does not write the {messages[place]['role']}'s message exactly once and as it is, so "
        "its beginning and end cannot be found.\n"
        "States are read at a place that the template must show.\n"
        "Read at the last token: `--steering.position last`; or give another `--template`."
    )
