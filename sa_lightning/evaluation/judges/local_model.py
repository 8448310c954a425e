"""A judge's model in this process, through transformers: batched, greedy, the longest questions first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.evaluation.judges.rubrics import Question

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class TransformersModel:
    """A judge's model, loaded here.

    Args:
        model: Directory or Hub id of a checkpoint or a PEFT adapter; the judge's own if not set.
        revision: Branch, tag or commit on the Hub.
        dtype: Of the weights; `auto` keeps the checkpoint's.
        device: Where it runs, such as `cuda:1`; `auto` is the first GPU, or the CPU.
        template_arguments: Handed to its chat template, such as `{enable_thinking: false}`.
        batch_tokens: Most tokens of a batch, padding and answers included; halved whenever the GPU's memory runs out.
    """

    model: str | None = None
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_tokens: int = 16384
    template_arguments: dict[str, Any] | None = None
    identity: str = field(init=False, repr=False)
    markers: tuple[str, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        self.identity = f"transformers {self.model} {self.revision} {self.dtype}"
        if self.template_arguments:
            self.identity += f" {self.template_arguments}"

    def check(self) -> None:
        """Refuse a model that is not there, and a batch that holds nothing, before a weight is read."""
        if self.batch_tokens < 1:
            raise SettingError(
                f"`batch_tokens` is the most tokens of a batch and must be at least 1, but is {self.batch_tokens}.\n"
                "A batch that holds nothing judges nothing.\nLeave it out, or give a few thousand."
            )
        _refuse_absent(self.device)
        from sa_lightning.models import load_config, load_tokenizer

        load_config(self.model or "", revision=self.revision)
        tokenizer = load_tokenizer(self.model or "", "plain", revision=self.revision)
        added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        # Tokens such as <tool_call> are not special and steer all the same; a plain word in the list does not.
        found = {*map(str, tokenizer.all_special_tokens), *(text for text in added if not text.isalnum())}
        self.markers = tuple(sorted(found))

    def answer(self, questions: Sequence[Question], new_tokens: int) -> Iterator[tuple[int, str | None]]:
        """Load the model, yield answers as batches finish, and let the model go.

        A question with more tokens than the model's context leaves room for is answered by None. The answer to a
        conversation is empty where it was cut short.
        """
        from sa_lightning.models import load_model, load_tokenizer

        source = self.model or ""
        # Text goes in as it is, so that a model without a chat template will do.
        template = "plain" if all(isinstance(question, str) for question in questions) else "chat"
        try:
            arguments = self.template_arguments if template == "chat" else None
            tokenizer = load_tokenizer(source, template, arguments=arguments, revision=self.revision)
        except ModelError as error:
            if "has no chat template" not in str(error):
                raise
            raise ModelError(
                f"The tokenizer of {source} has no chat template.\nThis judge asks in a conversation.\n"
                "Name an instruction-tuned model: `--local.model`."
            ) from error
        ids = [_tokenised(tokenizer, question) for question in questions]
        model = load_model(source, dtype=self.dtype, device=_device(self.device), revision=self.revision)
        room = (
            getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None) or 10**9
        ) - new_tokens
        yield from ((index, None) for index, tokens in enumerate(ids) if len(tokens) > room)
        order = sorted((index for index, tokens in enumerate(ids) if len(tokens) <= room), key=lambda i: -len(ids[i]))
        budget = self.batch_tokens
        while order:
            size = max(1, budget // (len(ids[order[0]]) + new_tokens))
            batch, rest = order[:size], order[size:]
            found = _generated(model, tokenizer, [ids[index] for index in batch], new_tokens)
            if found is None:
                budget = (len(ids[order[0]]) + new_tokens) * (len(batch) // 2)
                continue
            for index, (answer, has_ended) in zip(batch, found, strict=True):
                yield index, answer if has_ended or isinstance(questions[index], str) else ""
            order = rest


def _tokenised(tokenizer: "PreTrainedTokenizerBase", question: Question) -> list[int]:
    """Token ids of a question, with one BOS token where texts of this tokenizer begin with one."""
    from sa_lightning.models import render

    is_text = isinstance(question, str)
    # Half of a surrogate pair is no text for a tokenizer.
    written = (question if is_text else render(tokenizer, question, asks=True)).encode(errors="replace").decode()
    begun = not is_text or written.startswith(("<s>", str(tokenizer.bos_token)))
    encoded: Any = tokenizer(written, add_special_tokens=not begun, verbose=False)
    return encoded.input_ids


def _generated(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", ids: Sequence[list[int]], new_tokens: int
) -> list[tuple[str, bool]] | None:
    """Return greedy answers, each with whether it has ended by itself.

    None where the GPU's memory is too small for more than one question.
    """
    import torch

    from sa_lightning.models import decode

    inputs = tokenizer.pad({"input_ids": list(ids)}, return_tensors="pt").to(model.device)
    generate: Any = model.generate
    out: Any = None
    try:
        with torch.inference_mode():
            out = generate(
                **inputs,
                max_new_tokens=new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=tokenizer.pad_token_id,
            )
    except torch.OutOfMemoryError:
        if len(ids) == 1:
            raise
    if out is None:
        torch.cuda.empty_cache()  # here, where the error no longer holds the tensors of its frames
        return None
    new = out[:, inputs["input_ids"].shape[1] :]
    ends = getattr(model.generation_config, "eos_token_id", None)
    ends = set(ends if isinstance(ends, list) else [ends])
    has_ended = [not ends.isdisjoint(tokens) for tokens in new.tolist()]
    return [(decode(tokenizer, tokens), ended) for tokens, ended in zip(new.tolist(), has_ended, strict=True)]


def _refuse_absent(name: str) -> None:
    import torch

    try:
        torch.zeros(1, device=_device(name)).tolist()
    # In this order: no such device, a torch built without it, and `meta`, which holds no numbers.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).partition("\n")[0][:200]
        raise SettingError(
            f"`local.device` is {name}, which cannot be used here: {said}\n"
            f"The judge's model runs there; torch sees {torch.cuda.device_count()} GPUs.\n"
            "Name a device that is there, or leave it out: `auto` is the first GPU, or the CPU."
        ) from None


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
