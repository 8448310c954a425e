"""Render conversations with the model's chat template; refuse to guess one."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from sa_lightning.errors import CheckpointError, ModelError, SaError, SettingError
from sa_lightning.files import Json
from sa_lightning.models.as_asked import brief, in_our_words
from sa_lightning.models.gguf import plain
from sa_lightning.weight_files import read_object

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


def load_tokenizer(
    source: str,
    template: str = "chat",
    *,
    arguments: Mapping[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """Load a tokenizer that can render conversations.

    Args:
        source: Directory or Hub id, or a GGUF file.
        template: `chat` is the tokenizer's own chat template; `plain` joins the turns by
            newlines; `question_answer` is the `Question: … Answer: …` format of the Safety
            Arithmetic authors; `vicuna` that of Vicuna 1.5; anything else is the path of a Jinja file.
        arguments: Handed to the template wherever it is used, such as `{"enable_thinking": False}`.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run Python code that comes with the tokenizer.

    Returns:
        The tokenizer, padding on the left, with a pad token and a `chat_template`, and its `template_arguments`.

    Raises:
        ModelError: If there is no tokenizer, no chat template, or no such template file.
        SettingError: If the template does not read one of the arguments.
    """
    _check_names(source)
    with in_our_words(
        f"No tokenizer could be loaded from {source}",
        "Prompts are tokenised exactly as the model was trained: give a directory or Hub id that holds a whole "
        "tokenizer.json, `--model.tokenizer`.",
    ):
        loaded: Any = AutoTokenizer.from_pretrained(
            plain(source), revision=revision, trust_remote_code=trust_remote_code
        )
    tokenizer = loaded
    if template == "chat":
        if not tokenizer.chat_template:
            raise ModelError(
                f"The tokenizer of {source} has no chat template.\n"
                "A guessed format would measure another model than the one its users talk to.\n"
                "Say how prompts are written: `--template plain`, `--template question_answer`, or the path of a "
                "Jinja file."
            )
    elif template in TEMPLATES:
        with in_our_words(f"The tokenizer of {source} cannot tokenise", "Give another one: `--model.tokenizer`."):
            first = tokenizer("a").input_ids[:1]
        bos = "{{ bos_token }}" if tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id] else ""
        tokenizer.chat_template = bos + TEMPLATES[template]
    else:
        if not Path(template).is_file():
            raise ModelError(
                f"`--template {template}` is neither `chat`, {', '.join(f'`{name}`' for name in TEMPLATES)} nor a "
                "file.\nThe template decides how prompts are written.\nCheck the path of the Jinja file."
            )
        tokenizer.chat_template = _template_file(template)
    _check_arguments(tokenizer, arguments or {}, source, template)
    tokenizer.template_arguments = dict(arguments or {})
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"The tokenizer of {source} has neither a pad token nor an end-of-sequence token.\n"
                "Prompts of different length share a batch only when they can be padded.\n"
                "Set `pad_token` in its tokenizer_config.json."
            )
        tokenizer.pad_token = tokenizer.eos_token
    if not tokenize(tokenizer, PROBE)[0]:
        raise ModelError(
            f"The template `{template}` of {source} writes nothing for a prompt.\nThe model would be asked nothing.\n"
            "Give another `--template`: `plain`, `question_answer`, or a Jinja file."
        )
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, source: str) -> None:
    """Refuse a tokenizer whose words, or whose padding, have no row in the embedding of a model.

    Added tokens beyond the rows are left alone as long as no prompt has them: `tokenize` refuses those.

    Raises:
        ModelError: With the numbers of both.
    """
    rows = getattr(config.get_text_config(decoder=True), "vocab_size", None)
    if not isinstance(rows, int):
        return
    tokens: Any = tokenizer
    tokens.embedding_rows = rows
    written = tokenize(tokenizer, PROBE)[0]
    highest = max(tokens.vocab_size - 1, tokens.pad_token_id, *written)
    if highest >= rows:
        raise ModelError(
            f"The tokenizer of {source} writes tokens up to {highest}, but the embedding has {rows} rows.\n"
            "It is the tokenizer of another model.\nGive that of this one: `--model.tokenizer`."
        )


def _check_names(source: str) -> None:
    """Refuse a tokenizer whose config names files elsewhere on this machine, which would be read."""
    place = Path(source) / "tokenizer_config.json"
    if not place.is_file():
        return
    try:
        settings: Json = read_object(place)
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    home = place.parent.resolve()
    for key, value in settings.items():
        named: list[Any] = value if isinstance(value, list) else [value]
        for name in named if key.endswith(("_file", "_files")) else ():
            path = isinstance(name, str) and set(name) & set("/\\") and "\0" not in name and len(name) < 4096
            if path and (home / name).is_file() and not (home / name).resolve().is_relative_to(home):
                raise ModelError(
                    f"{place} names {name} as `{key}`, which lies elsewhere.\n"
                    "A tokenizer is read from its own directory.\nTake the line out, or put the file beside it."
                )


def _template_file(template: str) -> str:
    try:
        return Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The template {template} cannot be read: {brief(error)}.\nIt is Jinja in UTF-8.\nCheck the file."
        ) from error


def template_arguments(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return what is handed to the template of a tokenizer from `load_tokenizer`; nothing of any other."""
    return dict(getattr(tokenizer, "template_arguments", {}))


def _check_arguments(tokenizer: Any, arguments: Mapping[str, Any], source: str, template: str) -> None:
    """Refuse arguments that are set already, and those that a template does not read."""
    written = tokenizer.chat_template
    text = "\n".join(map(str, written.values())) if isinstance(written, dict) else str(written)
    ours = {*inspect.signature(tokenizer.apply_chat_template).parameters, "messages"} - {"tools", "documents"}
    for name in arguments:
        if name in ours:
            raise SettingError(
                f"`{name}` in `--model.template_arguments` is set by every prompt itself.\n"
                "Prompts end where the reply begins, and are tokenised as they are.\nLeave it out."
            )
        if not re.search(rf"\b{re.escape(name)}\b", text):
            raise SettingError(
                f"The template `{template}` of {source} does not read `{name}`.\n"
                "The argument would change no prompt.\n"
                "Leave it out of `--model.template_arguments`, or write the name as the template has it."
            )


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
    with template_errors():
        text: Any = tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=not answered,
            continue_final_message=answered,
            **(template_arguments(tokenizer) if arguments is None else arguments),
        )
    return text


@contextmanager
def template_errors() -> Iterator[None]:
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
            f"The chat template does not write the conversation. {brief(error)}\n"
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
    rows = getattr(tokenizer, "embedding_rows", None)
    if rows is not None and ids and max(ids) >= rows:
        raise ModelError(
            f"A prompt has the token {tokenizer.decode([max(ids)])!r}, number {max(ids)}, but the embedding has {rows} "
            "rows.\nThe model knows no such token.\n"
            "Take it out of the prompt, or give the model's own `--model.tokenizer`."
        )
    if max_length is None or len(ids) <= max_length:
        return ids, False
    bos = ids[:1] if ids[0] == tokenizer.bos_token_id and max_length > 1 else []
    return bos + ids[len(ids) - max_length + len(bos) :], True
