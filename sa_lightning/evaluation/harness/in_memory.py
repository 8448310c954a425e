"""A model in memory as an lm-eval model: batches of like length, dealt to processes, kept when they are done."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from lm_eval.models import huggingface
from lm_eval.models.utils import normalize_gen_kwargs

from sa_lightning.errors import ModelError, SaError
from sa_lightning.evaluation.harness.batches import ROWS, Batch, Request, budget_for, deal
from sa_lightning.evaluation.harness.journal import Journal
from sa_lightning.evaluation.harness.prompting import Prompting
from sa_lightning.evaluation.tasks.catalogue import no_room
from sa_lightning.evaluation.tasks.prompts import turns_of
from sa_lightning.files import json_digest
from sa_lightning.foreign import thoughts
from sa_lightning.models.chat import check_rows, decode, render, template_arguments
from sa_lightning.steering.runtime.conditional import is_gated
from sa_lightning.steering.runtime.prompt_lengths import prompt_lengths
from sa_lightning.steering.runtime.self_contrast import SelfContrast

HFLM: Any = huggingface.HFLM  # its decorators hide the signature from type checkers

SHOWN = {"generate_until": "replies", "loglikelihood": "choices", "loglikelihood_rolling": "texts"}

MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


class InMemoryLM(HFLM):
    """HFLM around a model that is loaded already: edited in place, or with hooks on it.

    HFLM answers; this class says what it is asked together. All requests of a type are sorted by length, longest first,
    and dealt to batches under a budget of tokens; the choices of one question stay together, and what is asked twice
    runs once. Batches are planned from all requests, so they are the same in every process and after an interruption.
    Where torch.distributed is initialised, the batches that are still to run are dealt to its processes, and every
    process gets all answers: on a CPU the same as those of one process, bit for bit. A batch that does not fit in
    memory is halved, and later ones with it.

    Args:
        model: A causal language model of transformers, on its device.
        tokenizer: Its tokenizer, with a pad token.
        batch_size: Most rows a batch; if not set, as many as the budget of the device allows.
        max_batch_size: Most rows a batch may have in that case; 1024 if not set.
        journal: Where finished batches are kept, so that a killed run goes on.
        progress: What the bars are called; none are shown if not set.
        report: Told what is asked, and how many of how many tokens are through, batch by batch.
        prompting: An instruction for every prompt, or for the contrast of replies with it.
        **settings: HFLM's, such as `max_length` and `add_bos_token`.

    Attributes:
        truncated: Task to the number of its documents that are longer than the model's context, and lose their
            beginning.
        cut: Task and number of a document to whether its reply (the first, where it has several) ends at the length
            limit: without an end-of-sequence token or a stop string. None where an earlier version kept the reply.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        batch_size: int | None = None,
        max_batch_size: int | None = None,
        journal: Journal | None = None,
        progress: str | None = None,
        report: Callable[[str, int, int], None] | None = None,
        prompting: Prompting | None = None,
        **settings: Any,
    ) -> None:
        arguments = template_arguments(tokenizer) | dict(settings.pop("chat_template_args", None) or {})
        if (thinks := settings.pop("enable_thinking", None)) is not None:
            arguments["enable_thinking"] = thinks  # HFLM asks for a `think_end_token` with it; judges need none
        settings |= {"chat_template_args": arguments} if arguments else {}
        super().__init__(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=1, **settings)
        if batch_size is not None and batch_size < 1:
            raise SaError(
                f"`batch_size` is how many prompts run together and must be at least 1, but is {batch_size}.\n"
                "Nothing can be asked in an empty batch.\nLeave it out for an automatic one."
            )
        self.most_rows, self.most_automatic = batch_size, max_batch_size or ROWS
        self.journal, self.progress, self.report = journal, progress, report or _unheard
        self.prompting = prompting or Prompting()
        self.prompting.check(tokenizer)
        self.truncated: Counter[str] = Counter()
        self.cut: dict[tuple[str, int], bool | None] = {}
        self._instructed: dict[str, str] = {}  # by the prompt as it is, where replies are contrasted
        self._plain: dict[str, str] = {}  # the other way round, where they are not
        self._encoding: tuple[list[str], dict[str, Any]] = ([], {})  # of the batch that runs
        self._unended: dict[str, list[bool]] = {}  # prompt to whether its replies were cut, in the batch that runs
        self._fits: int | None = None  # tokens, once a batch was too large
        self._prompts: dict[tuple[int, ...], int] = {}  # where they end, in what is asked the likelihood of

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """Write a conversation up to where the reply begins, or up to the end of a reply that is begun.

        With an instruction, unless replies are contrasted: then the prompt with it is remembered, and goes along.
        """
        chat_history = turns_of(chat_history)
        plain = self._written(chat_history)
        if self.prompting.instruction is None:
            return plain
        instructed = self._written(self.prompting.instructed(chat_history))
        if self.prompting.contrast is None:
            self._plain[instructed] = plain
            return instructed
        self._instructed[plain] = instructed
        return plain

    def plain(self, prompt: str) -> str:
        """Return a prompt without the instruction that was put before it."""
        return self._plain.get(prompt, prompt)

    def _written(self, chat_history: Any) -> str:
        """Write a conversation as every verb does; HFLM leaves out system turns where a template refuses them."""
        try:
            return render(self.tokenizer, chat_history, self.chat_template_args)
        except ModelError as error:
            if "continue_final_message" not in str(error.__cause__):
                raise
            raise ModelError(
                "The chat template does not write the assistant's message exactly once and as it is, so a reply that "
                f"begins with {chat_history[-1]['content']!r} cannot be asked for.\n"
                "The model goes on from the last character of that beginning.\n"
                "Leave prefilled prompts out, or give another `--template`."
            ) from error

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, *rest: Any, **settings: Any) -> list[int]:
        """Tokenise a text, with a BOS token if texts of this tokenizer begin with one, and one alone."""
        begins = self.tokenizer.bos_token
        if add_special_tokens is None and begins and string.startswith(begins):
            add_special_tokens = False
        return super().tok_encode(string, add_special_tokens, *rest, **settings)

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Write tokens as text, with the marks that part a thought from what is said."""
        if not skip_special_tokens or isinstance(tokens, int):
            return super().tok_decode(tokens, skip_special_tokens)
        return decode(self.tokenizer, list(tokens))

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the replies, and keep in `cut` which of them end at the length limit.

        Where a prompt ends with the mark that opens a thought, the reply begins with it.
        """
        # The journals of earlier versions hold the text alone.
        said = [[one, None] if isinstance(one, str) else one for one in self._answer("generate_until", requests)]
        for instance, (_, cut) in reversed(list(zip(requests, said, strict=True))):
            self.cut[instance.task_name, instance.doc_id] = cut
        if self.think_end_token is not None:  # lm-eval has taken thoughts off
            return [text for text, _ in said]
        return [thoughts.open_mark(one.args[0]) + text for one, (text, _) in zip(requests, said, strict=True)]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return how likely each continuation is, and whether greedy decoding would write it."""
        return [tuple(answer) for answer in self._answer("loglikelihood", requests)]  # type: ignore[misc]  # pairs

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each text, behind the one BOS token that HFLM puts before it."""
        before, self.add_bos_token = self.add_bos_token, False
        try:
            return self._answer("loglikelihood_rolling", requests)
        finally:
            self.add_bos_token = before

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        if is_gated(self.model):  # the prompt is what comes before the first token whose likelihood is asked for
            runs = [((context + answer)[-(self.max_length + 1) :][:-1], len(answer)) for _, context, answer in requests]
            self._prompts = {tuple(ids): len(ids) - length + 1 for ids, length in runs}
        return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)  # one bar is enough

    def _model_call(self, inps: Any, attn_mask: Any = None, labels: Any = None) -> Any:
        if not is_gated(self.model):
            return super()._model_call(inps, attn_mask, labels)
        lengths = []
        for row in inps.tolist():
            # Rows are padded on the right, with nothing that says how far.
            whole = next(n for n in range(len(row), 0, -1) if tuple(row[:n]) in self._prompts)
            lengths.append(self._prompts[tuple(row[:whole])])
        with prompt_lengths(lengths):
            return super()._model_call(inps, attn_mask, labels)

    def tok_batch_encode(self, strings: Any, *arguments: Any, **settings: Any) -> Any:
        """Tokenise prompts, padded on the left; those with the instruction will be in the same way."""
        self._encoding = (list(strings), settings)
        ids, mask = super().tok_batch_encode(strings, *arguments, **settings)
        check_rows(self.tokenizer, int(ids.max()))
        return ids, mask

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **settings: Any) -> Any:
        """Generate, next to the prompts with the instruction if replies are contrasted with theirs."""
        if self.prompting.contrast is not None:
            texts, encoding = self._encoding
            ids, mask = super().tok_batch_encode([self._second(text) for text in texts], **encoding)
            ids, mask = ids.to(self.device), mask.to(self.device)
            settings["logits_processor"] = [SelfContrast(self.model, ids, mask, self.prompting.contrast)]
        found = super()._model_generate(context, max_length, stop, **settings)
        for text, ids in zip(self._encoding[0], found[:, context.shape[1] :].tolist(), strict=True):
            self._unended.setdefault(text, []).append(not self._has_ended(ids, stop))
        return found

    def _has_ended(self, ids: list[int], stop: Sequence[str]) -> bool:
        """Whether a reply holds an end-of-sequence token or a stop string."""
        known: Any = self.model.generation_config.eos_token_id
        ends = {*(known if isinstance(known, list) else [known]), self.tokenizer.eos_token_id}
        if not ends.isdisjoint(ids):
            return True
        text = self.tok_decode(ids)
        return any(term and term in text for term in stop)

    def _second(self, text: str) -> str:
        if text not in self._instructed:
            raise ModelError(
                f"It is not known how the prompt {text[-60:]!r} is written with the instruction.\n"
                "Replies are contrasted with those to it.\nAsk through the chat template, or leave `contrast` out."
            )
        return self._instructed[text]

    def _answer(self, kind: str, instances: Sequence[Any]) -> list[Any]:
        """Answer each instance, in their order."""
        if self.prompting.contrast is not None and is_gated(self.model):
            raise ModelError(
                "Replies are to be contrasted in a model that gates steer.\n"
                "A gate decides on one prompt a reply, and would read two.\nLeave the gate, or `contrast`, out."
            )
        asked = self._requests(kind, instances)
        once: dict[str, Request] = {}
        for request in asked:
            once.setdefault(request.key, request)
        batches = deal(list(once.values()), budget_for(kind, self.device.type), self.most_rows, self.most_automatic)
        rank, world = (dist.get_rank(), dist.get_world_size()) if _is_distributed() else (0, 1)
        known = _from_first(self.journal.read() if self.journal is not None and rank == 0 else {})
        left = [batch for batch in batches if len(known.get(batch.digest, ())) != len(batch.requests)]
        answers = {batch.digest: known[batch.digest] for batch in batches if batch.digest in known}
        mine: dict[str, list[Any]] = {}
        with self._bar(kind, left[rank::world]) if rank == 0 else nullcontext(lambda batch: None) as advance:
            for batch in left[rank::world]:
                mine[batch.digest] = self._run(kind, batch)
                if self.journal is not None:
                    self.journal.add(batch.digest, mine[batch.digest])
                advance(batch)
        for found in _from_all(mine):
            answers |= found
        by_key = {
            request.key: answer
            for batch in batches
            for request, answer in zip(batch.requests, answers[batch.digest], strict=True)
        }
        return [by_key[request.key] for request in asked]

    def _requests(self, kind: str, instances: Sequence[Any]) -> list[Request]:
        """Look at what lm-eval asks: how long it is, and what belongs together."""
        rooms = [self._room(instance) if kind == "generate_until" else 0 for instance in instances]
        texts = ["".join(part for part in instance.args if isinstance(part, str)) for instance in instances]
        tokens = dict(zip(unique := list(dict.fromkeys(texts)), self._encoded(unique), strict=True))
        contrasted = kind == "generate_until" and self.prompting.contrast is not None
        second = [self._second(text) for text in unique] if contrasted else []
        longer = dict(zip(unique, self._encoded(second), strict=True)) if contrasted else {}
        found, seen, cut = [], set(), set()
        times: Counter[str] = Counter()
        for instance, room, text in zip(instances, rooms, texts, strict=True):
            ids = tokens[text]
            length = len(ids)
            settings = json.dumps(instance.args[1], sort_keys=True, default=str) if kind == "generate_until" else ""
            sampled = kind == "generate_until" and bool(instance.args[1].get("do_sample"))
            told = [kind, self.max_length, instance.args, ids]
            if sampled:  # each is another draw
                times[text + settings] += 1
                told += [times[text + settings], torch.initial_seed()]
            rows, width = 1, min(length + room, self.max_length)
            if contrasted:  # two rows of tokens, of which the longer one is cut first
                told += [self._second(text), self.prompting.contrast]
                width += min(len(longer[text]) + room, self.max_length)
                length = max(length, len(longer[text]))
            if kind == "loglikelihood":
                # HFLM runs what differs in its last token once.
                shared = (instance.args[0], *ids[:-1])
                rows = int(shared not in seen)
                seen.add(shared)
            elif kind == "loglikelihood_rolling":
                rows = max(1, math.ceil(length / self.max_length))
            if kind != "loglikelihood_rolling" and length + room > self.max_length + (kind == "loglikelihood"):
                cut.add((instance.task_name, instance.doc_id))
            key = json_digest(told)
            unit = (instance.args[0] if kind == "loglikelihood" else "") or key
            found.append(Request(instance, key, unit, settings, rows, max(1, width), sampled))
        self.truncated.update(task for task, _ in cut)
        return found

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids if texts else []

    def _room(self, instance: Any) -> int:
        """How many tokens the reply may have."""
        settings: Any = normalize_gen_kwargs(instance.args[1], self.max_gen_toks)
        wanted = int(settings["max_gen_toks"])
        if wanted >= self.max_length:
            raise SaError(no_room(instance.task_name, wanted, self.max_length))
        return wanted

    def _run(self, kind: str, batch: Batch) -> list[Any]:
        """Have HFLM answer a batch, with as many rows at once as fit in memory."""
        most = batch.most if self._fits is None else max(1, min(batch.most, self._fits // batch.width))
        while True:
            try:
                return self._ask(kind, batch, most)
            except RuntimeError as error:
                if not any(words in str(error) for words in MEMORY):
                    raise
                message = str(error).splitlines()[0]
            # Out of the handler, so that what the failed forward held is free.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if most == 1:
                raise ModelError(
                    f"A sequence of {batch.width} tokens does not fit in memory: {message}\n"
                    "A batch of one cannot be halved.\n"
                    "Load the model in a smaller type (`--model.dtype bfloat16`), or leave tasks with long prompts out."
                )
            most = max(1, min(most, batch.rows) // 2)
            self._fits = most * batch.width

    def _ask(self, kind: str, batch: Batch, most: int) -> list[Any]:
        self.batch_size_per_gpu = most
        sampled = any(request.sampled for request in batch.requests)
        with torch.random.fork_rng(enabled=sampled):
            if sampled:  # the same draws whichever process runs it, and after whichever batch
                torch.manual_seed(int(batch.digest[:15], 16))
            instances = [request.instance for request in batch.requests]
            self._unended = {}
            answers = getattr(HFLM, kind)(self, instances, disable_tqdm=True)
        if kind != "generate_until":
            return answers
        # The same prompt more than once (draws) runs in the order in which it is asked.
        return [[text, self._unended[one.args[0]].pop(0)] for one, text in zip(instances, answers, strict=True)]

    @contextmanager
    def _bar(self, kind: str, left: Sequence[Batch]) -> Iterator[Callable[[Batch], None]]:
        """Show, or tell, how far the batches have come, in tokens, and the time left."""
        total, through = sum(batch.rows * batch.width for batch in left), 0

        def tell(batch: Batch) -> None:
            nonlocal through
            through += batch.rows * batch.width
            self.report(SHOWN[kind], through, total)

        self.report(SHOWN[kind], 0, total)
        if self.progress is None or not left:
            yield tell
            return
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        from sa_lightning.foreign.terminal import Terminal

        columns = (
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[done]}/{task.fields[of]} batches", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=Terminal(stderr=True)) as shown:
            name = f"{self.progress} {SHOWN[kind]}".strip()
            bar = shown.add_task(name, total=total, done=0, of=len(left))
            done = 0

            def advance(batch: Batch) -> None:
                nonlocal done
                done += 1
                tell(batch)
                shown.update(bar, advance=batch.rows * batch.width, done=done)

            yield advance


def _unheard(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _from_first(value: Any) -> Any:
    """What the first process has, in all of them."""
    if not _is_distributed():
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def _from_all(value: Any) -> list[Any]:
    """What every process has, in all of them."""
    if not _is_distributed():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found
