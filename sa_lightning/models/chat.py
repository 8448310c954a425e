"""Conversations as text and as token ids, by the model's chat template, and replies as text again."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

from transformers import PreTrainedTokenizerBase

from sa_lightning.errors import ModelError, SaError
from sa_lightning.foreign import thoughts
from sa_lightning.models.as_asked import brief

Message = dict[str, str]
PROBE: list[Message] = [{"role": "user", "content": "How are you?"}]  # a template is tried before a model is loaded

TODAY = "strftime_now"  # by which templates ask for today's date
# Of dates, as `strftime` has them:
CODES = ("%-d", "%-m", *(f"%{letter}" for letter in "dmbBaAYyjFDHIMSp"))
DATE = "2024-07-26"  # which they are told, so that nothing changes with the calendar: Llama's fall back on it

# Templates for models without one. Newlines are quoted: transformers trims those behind a block.
# `question_answer` is the format that the authors of Safety Arithmetic name
# (declare-lab/safety-arithmetic, issue 1), without the stray indentation of their notebook.
TEMPLATES = {
    "plain": (
        "{% for message in messages %}{{ message['content'] }}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\n' }}{% endif %}"
    ),
    "question_answer": (
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}Question: {% elif message['role'] == 'assistant' %}Answer: {% endif %}"
        "{{ message['content'] }}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\n' }}Answer:{% endif %}"
    ),
    # Of Vicuna 1.1 and 1.5, as FastChat writes it; their tokenizers come without one.
    "vicuna": (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %} USER: {{ message['content'] }}"
        "{% elif message['role'] == 'assistant' %} ASSISTANT: {{ message['content'] }}"
        "{% if not loop.last %}{{ eos_token }}{% endif %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    ),
}


def template_arguments(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return what is handed to the template: what `load_tokenizer` was given, and a fixed date if it asks for today's.

    The date is text, `YYYY-MM-DD`, under the name `strftime_now`, as the template has it.
    """
    dated = {TODAY: DATE} if reads(tokenizer, TODAY) else {}
    return dated | dict(getattr(tokenizer, "template_arguments", {}))


def reads(tokenizer: PreTrainedTokenizerBase, name: str) -> bool:
    """Say whether the chat template of a tokenizer has a name in it."""
    written = tokenizer.chat_template
    text = "\n".join(map(str, written.values())) if isinstance(written, dict) else str(written)
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    arguments: Mapping[str, Any] | None = None,
    *,
    asks: bool | None = None,
    ends: bool = False,
) -> str:
    """Write a conversation as text: up to the reply, or up to the end of a given answer.

    A conversation that ends with the user gets the generation prompt. One that ends with the
    assistant stops at the last character of the answer, before any end-of-turn marker, so that
    the last token belongs to the answer and not to the template. A tokenizer that begins every text with its BOS
    token begins a conversation with it, too, where the template does not write it: it is there once, never twice.

    Args:
        tokenizer: From `load_tokenizer`.
        messages: The conversation. The tokenizer's `system_prompt`, if it has one, goes before one without a system
            turn.
        arguments: Handed to the template, instead of those that the tokenizer was loaded with.
        asks: Whether the model is to reply; if not set, it is where the last turn is not the assistant's.
        ends: Whether what the template writes behind a given answer is there, too.

    Raises:
        ModelError: If the template leaves out, or changes, the answer, or leaves out what the system says.
    """
    told = getattr(tokenizer, "system_prompt", None)
    if told is not None and not any(message["role"] == "system" for message in messages):
        messages = [{"role": "system", "content": told}, *messages]
    dated = template_arguments(tokenizer)
    arguments = dated if arguments is None else {TODAY: dated[TODAY], **arguments} if TODAY in dated else arguments
    asks = messages[-1]["role"] != "assistant" if asks is None else asks
    with template_errors(tokenizer):
        try:
            text = _written(tokenizer, messages, arguments, asks, ends)
        except Exception as error:
            _check_system(tokenizer, messages, arguments, brief(error))
            raise
    if any(m["role"] == "system" and m["content"].strip() not in text for m in messages):
        _check_system(tokenizer, messages, arguments, "it leaves it out")
    begins = str(tokenizer.bos_token)
    return begins + text if begins_with_bos(tokenizer) and not text.lstrip().startswith(begins) else text


def _written(
    tokenizer: Any, messages: Sequence[Message], arguments: Mapping[str, Any], asks: bool, ends: bool = False
) -> str:
    text: Any = tokenizer.apply_chat_template(
        list(messages),
        tokenize=False,
        add_generation_prompt=asks,
        continue_final_message=not asks and not ends,
        **({"chat_template": _dated(tokenizer, str(arguments[TODAY]))} if TODAY in arguments else {}),
        **{name: value for name, value in arguments.items() if name != TODAY},
    )
    return text


def _dated(tokenizer: Any, day: str) -> str:
    """The chat template with a date of its own in place of the clock's: transformers hands on no function."""
    written = "".join(f" | replace('{code}', '{date.fromisoformat(day).strftime(code)}')" for code in CODES)
    return f"{{% macro {TODAY}(format) %}}{{{{ format{written} }}}}{{% endmacro %}}{{{{ '' }}}}" + (
        tokenizer.get_chat_template()
    )


def _check_system(tokenizer: Any, messages: Sequence[Message], arguments: Mapping[str, Any], said: str) -> None:
    """Say that a template has no system role, if a conversation is written without its system turns, and not with them.

    Raises:
        ModelError: With the ways out.
    """
    others = [message for message in messages if message["role"] != "system"]
    if len(others) == len(messages) or not others:
        return
    try:
        _written(tokenizer, others, arguments, asks=others[-1]["role"] != "assistant")
    except Exception:
        return
    raise ModelError(
        f"The chat template of {tokenizer.name_or_path} does not write what the system says: {said}.\n"
        "The model would be asked without it; some templates have no system role.\n"
        "Put it before the first words of the user, leave it out, or give another `--template`."
    )


def begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Say whether a tokenizer begins every text with its BOS token; one that can make nothing of a text does not."""
    try:
        ids = tokenizer("a", verbose=False).input_ids if tokenizer.bos_token_id is not None else []
    except Exception:  # the bindings of tokenizers raise plain ones; `tokenize` tells of them
        return False
    return ids[:1] == [tokenizer.bos_token_id]


@contextmanager
def template_errors(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Turn what a chat template raises into a ModelError that says it: it is a program, and any error may come."""
    try:
        yield
    except SaError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and "continue_final_message" in str(error):
            raise ModelError(
                "The chat template does not write the assistant's message exactly once and as it is, so its end cannot "
                "be found.\nA conversation is read up to the last character of the answer.\n"
                "Give another `--template`: `plain`, `question_answer`, or a Jinja file."
            ) from error
        raise ModelError(
            f"The chat template of {tokenizer.name_or_path} does not write the conversation. {brief(error)}\n"
            "It is a program that comes with the tokenizer, and this is what it says.\n"
            "Give another `--template`: `plain`, `question_answer`, or a Jinja file."
        ) from error


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return a reply as text, without special tokens; those that part its thoughts from what it says are kept.

    Some models have special tokens for these: without `<|channel|>` or `[THINK]` a thought reads as the answer.
    """
    tokens: Any = tokenizer
    known = {number: str(token) for number, token in tokens.added_tokens_decoder.items() if token.special}
    known |= dict(zip(tokens.all_special_ids, tokens.all_special_tokens, strict=True))
    if not any(thoughts.is_mark(known[number]) for number in ids if number in known):
        return tokens.decode(ids, skip_special_tokens=True)
    kept = [n for n in ids if n not in known or thoughts.is_mark(known[n]) or thoughts.goes_with_marks(known[n])]
    return tokens.decode(kept, skip_special_tokens=False)


def tokenize(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], max_length: int | None = None
) -> tuple[list[int], bool]:
    """Render and tokenise a conversation, cut on the left where it is too long.

    Args:
        tokenizer: From `load_tokenizer`.
        messages: The conversation.
        max_length: Most tokens to keep. The end is kept; so is a leading BOS token, which many
            models need as a place for idle attention.

    Returns:
        Token ids, and whether some were cut. No special token is added to what `render` writes.

    Raises:
        ModelError: If the template fails, or a token has no row in the embedding of the model (`check_vocabulary`).
    """
    text = render(tokenizer, messages)
    try:
        ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    except Exception as error:  # the bindings of tokenizers raise plain ones
        raise ModelError(
            f"A conversation cannot be tokenised. {brief(error)}\n"
            "The tokenizer lacks something, or the conversation holds what is no text, such as half a surrogate pair.\n"
            "Give another `--model.tokenizer`, or take the prompt out."
        ) from error
    check_rows(tokenizer, max(ids, default=0))
    if max_length is None or len(ids) <= max_length:
        return ids, False
    bos = ids[:1] if ids[0] == tokenizer.bos_token_id and max_length > 1 else []
    return bos + ids[len(ids) - max_length + len(bos) :], True


def check_rows(tokenizer: PreTrainedTokenizerBase, highest: int) -> None:
    """Refuse a token that has no row in the embedding of the model (`check_vocabulary`).

    Raises:
        ModelError: With the token.
    """
    rows = getattr(tokenizer, "embedding_rows", None)
    if rows is not None and highest >= rows:
        raise ModelError(
            f"A prompt has the token {tokenizer.decode([highest])!r}, number {highest}, but the embedding has {rows} "
            "rows.\nThe model knows no such token.\n"
            "Take it out of the prompt, or give the model's own `--model.tokenizer`."
        )
