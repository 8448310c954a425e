"""Load a tokenizer that can write conversations for a model; refuse to guess a chat template."""

import inspect
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from sa_lightning.errors import CheckpointError, ModelError, SettingError
from sa_lightning.files import Json
from sa_lightning.models.adapters import base_of, base_revision
from sa_lightning.models.as_asked import brief, in_our_words
from sa_lightning.models.chat import TEMPLATES, TODAY, Message, begins_with_bos, reads, render, tokenize
from sa_lightning.models.gguf import plain
from sa_lightning.source import read
from sa_lightning.weight_files import read_object

try:
    import resource as _resource
except ImportError:  # Windows
    resource: ModuleType | None = None
else:
    resource = _resource

PROBE = "How are you?"  # a template is tried before a model is loaded
SECONDS, GIGABYTES = 5, 2  # that it may take for that
FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")  # of which a tokenizer has some


def load_tokenizer(
    source: str,
    template: str = "chat",
    *,
    arguments: Mapping[str, Any] | None = None,
    system_prompt: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """Load a tokenizer that can render conversations.

    Args:
        source: Directory or Hub id, or a GGUF file; of adapters the last one's, or their base's if that brings none.
        template: `chat` is the tokenizer's own chat template; `plain` joins the turns by
            newlines; `question_answer` is the `Question: … Answer: …` format of the Safety
            Arithmetic authors; `vicuna` that of Vicuna 1.5; anything else is the path of a Jinja file.
        arguments: Handed to the template wherever it is used, such as `{"enable_thinking": False}`. A date in
            `strftime_now`, `YYYY-MM-DD`, is today's for templates that ask for it, and a fixed one if not set.
        system_prompt: What the system says in conversations without a system turn.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run Python code that comes with the tokenizer.

    Returns:
        The tokenizer, padding on the left, with a pad token and a `chat_template`, its `template_arguments` and
        `system_prompt`.

    Raises:
        ModelError: If there is no tokenizer, no chat template, no such template file, or a system prompt that it does
            not write.
        SettingError: If the template does not read one of the arguments.
    """
    source, revision = tokenizer_place(source, revision)
    _check_names(source)
    with in_our_words(
        f"No tokenizer could be loaded from {source}",
        "Prompts are tokenised exactly as the model was trained: give a directory or Hub id that holds a whole "
        "tokenizer.json, `--model.tokenizer`.",
    ):
        loaded: Any = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
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
            bos = "{{ bos_token }}" if begins_with_bos(tokenizer) else ""
        tokenizer.chat_template = bos + TEMPLATES[template]
    else:
        if not os.path.isfile(template):
            raise ModelError(
                f"`--template {template}` is neither `chat`, {', '.join(f'`{name}`' for name in TEMPLATES)} nor a "
                "file.\nThe template decides how prompts are written.\nCheck the path of the Jinja file."
            )
        tokenizer.chat_template = _template_file(template)
    _check_arguments(tokenizer, arguments or {}, source, template)
    tokenizer.template_arguments, tokenizer.system_prompt = dict(arguments or {}), system_prompt
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"The tokenizer of {source} has neither a pad token nor an end-of-sequence token.\n"
                "Prompts of different length share a batch only when they can be padded.\n"
                "Set `pad_token` in its tokenizer_config.json."
            )
        tokenizer.pad_token = tokenizer.eos_token
    probe: list[Message] = [{"role": "user", "content": PROBE}]
    with _within(SECONDS, GIGABYTES):
        text = render(tokenizer, probe)
    if PROBE not in text or not tokenize(tokenizer, probe)[0]:
        raise ModelError(
            f"The template `{template}` of {source} does not write what the user says.\n"
            "The model would be asked nothing.\n"
            "Give another `--template`: `plain`, `question_answer`, or a Jinja file."
        )
    return tokenizer


def tokenizer_place(source: str, revision: str | None = None) -> tuple[str, str | None]:
    """Where the tokenizer of a model lies, and its revision on the Hub: of adapters with the last one, or their base.

    Args:
        source: As of `load_tokenizer`.
        revision: Of the model.
    """
    adapters = [name for name, _ in read(source).adapters]
    if not adapters:
        return plain(source), revision
    if any((Path(adapters[-1]) / name).is_file() for name in FILES):
        return adapters[-1], None
    return base_of(source), base_revision(source, revision)


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, source: str) -> None:
    """Refuse a tokenizer whose words have no row in the embedding of a model.

    A pad token without a row, as some fine-tunes add it, is replaced by the end-of-sequence token: padding is masked.
    Added tokens beyond the rows are left alone as long as no prompt has them: `tokenize` refuses those.

    Raises:
        ModelError: With the numbers of both.
    """
    rows = getattr(config.get_text_config(decoder=True), "vocab_size", None)
    if not isinstance(rows, int):
        return
    tokens: Any = tokenizer
    tokens.embedding_rows = rows
    if tokens.pad_token_id >= rows and tokens.eos_token_id is not None:
        tokens.pad_token = tokens.eos_token
    written = tokenize(tokenizer, [{"role": "user", "content": PROBE}])[0]
    highest = max(tokens.vocab_size - 1, tokens.pad_token_id, *written)
    if highest >= rows:
        raise ModelError(
            f"The tokenizer of {source} writes tokens up to {highest}, but the embedding has {rows} rows.\n"
            "It is the tokenizer of another model.\nGive that of this one: `--model.tokenizer`."
        )


def _check_names(source: str) -> None:
    """Refuse a tokenizer whose config names files elsewhere on this machine, which would be read."""
    place = Path(source) / "tokenizer_config.json"
    if not os.path.isfile(place):
        return
    try:
        settings: Json = read_object(place)
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    home = place.parent.resolve()
    for key, value in settings.items():
        named: list[Any] = value if isinstance(value, list) else [value]
        for name in named if key.endswith(("_file", "_files")) else ():
            path = isinstance(name, str) and set(name) & set("/\\")
            if path and os.path.isfile(home / name) and not (home / name).resolve().is_relative_to(home):
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


def _check_arguments(tokenizer: Any, arguments: Mapping[str, Any], source: str, template: str) -> None:
    """Refuse arguments that are set already, and those that a template does not read."""
    ours = {*inspect.signature(tokenizer.apply_chat_template).parameters, "messages"} - {"tools", "documents"}
    for name in arguments:
        if name in ours:
            raise SettingError(
                f"`{name}` in `--model.template_arguments` is set by every prompt itself.\n"
                "Prompts end where the reply begins, and are tokenised as they are.\nLeave it out."
            )
        if not reads(tokenizer, name):
            raise SettingError(
                f"The template `{template}` of {source} does not read `{name}`.\n"
                "The argument would change no prompt.\n"
                "Leave it out of `--model.template_arguments`, or write the name as the template has it."
            )
    if TODAY in arguments:
        try:
            date.fromisoformat(str(arguments[TODAY]))
        except ValueError as error:
            raise SettingError(
                f"`{TODAY}` in `--model.template_arguments` is {arguments[TODAY]!r}, which is no date.\n"
                "It is what the template takes for today.\nWrite it as 2024-07-26."
            ) from error


@contextmanager
def _within(seconds: int, gigabytes: int) -> Iterator[None]:
    """Let Python code of a stranger run for so long, and take so much more memory, then end it with an error.

    The time only in the main thread and not on Windows, the memory only on Linux. It is no prison: a template may
    behave until it is used.
    """
    if resource is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: Any) -> None:
        raise TimeoutError(f"it takes more than {seconds} seconds for {PROBE!r}")

    before = signal.signal(signal.SIGALRM, late)
    limits, used = resource.getrlimit(resource.RLIMIT_AS), Path("/proc/self/statm")
    if used.is_file():
        room = int(used.read_text(encoding="utf-8").split()[0]) * resource.getpagesize() + (gigabytes << 30)
        least = min([room, *(limit for limit in limits if limit != resource.RLIM_INFINITY)])
        resource.setrlimit(resource.RLIMIT_AS, (least, limits[1]))
    left = signal.alarm(seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.alarm(left)
        resource.setrlimit(resource.RLIMIT_AS, limits)
