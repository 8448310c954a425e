"""Settings of an lm-eval task that cannot be meant: found before a model is loaded, not at the first prompt."""

import math
from collections.abc import Mapping
from typing import Any

from sa_lightning.errors import DataError
from sa_lightning.ranges import Range

_COUNT, _SHARE = Range(1, 2**31 - 1, ""), Range(0, 1, "", above=True)
#: Settings of generation to the numbers that they may have.
NUMBERS = {
    "max_gen_toks": _COUNT,
    "max_new_tokens": _COUNT,
    "num_beams": _COUNT,
    "top_k": Range(0, 2**31 - 1, ""),
    "top_p": _SHARE,
    "min_p": Range(0, 1, ""),
    "temperature": Range(0, math.inf, ""),
    "repetition_penalty": Range(0, math.inf, "", above=True),
}
#: What lm-eval's models read besides what transformers knows.
OF_LM_EVAL = {"until", "max_gen_toks", "do_sample", "max_length"}


def check_task(name: str, task: Any) -> None:
    """Refuse a task whose settings no model could be asked by.

    Args:
        name: Of the task.
        task: As lm-eval has loaded it.

    Raises:
        DataError: If a number is out of range, a setting of generation unknown, or the first document no prompt.
    """
    counts = {"repeats": Range(1, 10_000, ""), "num_fewshot": Range(0, 1000, "")}
    for setting, known in counts.items():
        value = getattr(task.config, setting, None)
        if value is not None and not (isinstance(value, int) and known.holds(value)):
            _refuse(name, setting, value, f"a whole number, {known}")
    document = next(iter(getattr(task, "task_docs", ())), None)
    asks = task.OUTPUT_TYPE == "generate_until"
    prompt = None if document is None else task.doc_to_text(document)
    if asks and document is not None and not isinstance(prompt, str):
        _refuse(name, "doc_to_text", repr(prompt), "text, as a prompt of the first document is not")
    if asks:
        _check_generation(name, task.config.generation_kwargs)


def _check_generation(name: str, given: Any) -> None:
    from transformers import GenerationConfig

    if given is None:
        return
    if not isinstance(given, Mapping):
        _refuse(name, "generation_kwargs", given, "a mapping")
    strange = [key for key in given if key not in OF_LM_EVAL and not hasattr(GenerationConfig(), str(key))]
    if strange:
        _refuse(name, "generation_kwargs", strange[0], "settings that transformers knows")
    until = given.get("until")
    until = [until] if isinstance(until, str) else [] if until is None else until
    if not isinstance(until, list | tuple) or not all(isinstance(one, str) for one in until):
        _refuse(name, "generation_kwargs.until", given["until"], "texts")
    if not isinstance(given.get("do_sample", False), bool):
        _refuse(name, "generation_kwargs.do_sample", given["do_sample"], "true or false")
    for key, known in NUMBERS.items():
        if key in given and not known.holds(given[key]):
            _refuse(name, f"generation_kwargs.{key}", given[key], f"a number, {known}")
    if given.get("do_sample") and given.get("temperature") == 0:
        _refuse(name, "generation_kwargs.temperature", 0, "above 0 where tokens are drawn (`do_sample`)")


def _refuse(task: str, setting: str, value: Any, wanted: str) -> None:
    raise DataError(
        f"The task {task} has `{setting}` {str(value)[:60]}, where it must be {wanted}.\n"
        "No reply could be asked for so.\nMend the task's file, or leave the task out."
    )
