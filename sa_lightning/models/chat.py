"""Conversations as text and as token ids, by the model's chat template."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedTokenizerBase

from sa_lightning.errors import ModelError, SaError
from sa_lightning.models.as_asked import brief

Message = dict[str, str]
PROBE: list[Message] = [{"role": "user", "content": "How are you?"}]  # a template is tried before a model is loaded

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
    """Return what is handed to the template of a tokenizer from `load_tokenizer`; nothing of any other."""
    return dict(getattr(tokenizer, "template_arguments", {}))


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], arguments: Mapping[str, Any] | None = None
) -> str:
    """Write a conversation as text: up to the reply, or up to the end of a given answer.

    A conversation that ends with the user gets the generation prompt. One that ends with the
    assistant stops at the last character of the answer, before any end-of-turn marker, so that
    the last token belongs to the answer and not to the template.

    Args:
        tokenizer: From `load_tokenizer`.
        messages: The conversation.
        arguments: Handed to the template, instead of those that the tokenizer was loaded with.

    Raises:
        ModelError: If the template leaves out, or changes, the answer.
    """
    answered = messages[-1]["role"] == "assistant"
    with template_errors(tokenizer):
        text: Any = tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=not answered,
            continue_final_message=answered,
            **(template_arguments(tokenizer) if arguments is None else arguments),
        )
    return text


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
        Token ids, and whether some were cut. No special token is added: the template has them.

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
