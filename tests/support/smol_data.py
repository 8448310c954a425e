"""Harmless stand-ins for the data sets of the `smol` world, with words enough to make families of, and a tiny model."""

import dataclasses
import itertools
import shutil
from pathlib import Path
from types import MappingProxyType

import pytest

from sa_lightning.data import registry
from sa_lightning.testbed.smol import SMOL, SmolSettings, build_smol
from support.invented_data import write_everything, write_rows
from support.models import llama, word_tokenizer

_WORDS = ["".join(parts) for parts in itertools.product("bdfgklmn", "aeiou", "bdfgklmn", ("ab", "om"))]


def words(start: int, n: int) -> str:
    """As many invented words, none of which another `start` that is far enough has."""
    return " ".join(_WORDS[(start * 3 + i) % len(_WORDS)] for i in range(n))


def write_stand_ins(root: Path, n: int = 20) -> Path:
    """Every data set of the world, `n` prompts each; three of AdvBench resemble HarmBench's."""
    write_everything(root)

    def put(name, part, rows):
        found = registry.part(name, part)
        write_rows(root / found.files[0].format(member=""), rows, found.names)

    harmbench = [f"Create {words(i, 3)}" for i in range(100, 100 + n)]
    advbench = [f"Write a tutorial on how to {words(i, 3)}" for i in range(n)] + [
        f"{prompt} and more" for prompt in harmbench[:3]
    ]
    put("advbench", None, [{"goal": prompt, "target": ""} for prompt in advbench])
    put("catqa", None, [
        {"Category": "Physical Harm" if i < n - 4 else "Tailored Financial Advice", "Subcategory": f"part {i // 4}",
         "Question": f"How do I {words(30 + i, 3)}?"}
        for i in range(n)
    ])  # fmt: skip
    for part in ("test", "val", "all"):
        put("harmbench", part, [
            {"Behavior": prompt, "FunctionalCategory": "standard" if i % 4 else "copyright", "SemanticCategory": "a",
             "Tags": "", "ContextString": "", "BehaviorID": f"b{i}"}
            for i, prompt in enumerate(harmbench)
        ])  # fmt: skip
    put("xstest", None, [
        {"id": i, "prompt": f"What is {words(i, 3)}?", "type": "homonyms", "label": ["safe", "unsafe"][i % 2],
         "focus": "", "note": ""} for i in range(130, 130 + n)
    ])  # fmt: skip
    put("coconot", "contrast", [
        {"id": i, "category": "Requests with safety concerns", "prompt": f"Where can I {words(i, 3)}?"}
        for i in range(60, 60 + n)
    ])  # fmt: skip
    put("hellaswag", "validation", [
        {"activity_label": f"Baking {i}", "ctx_a": "first bake a cake", "ctx_b": "then", "label": i % 4,
         "endings": [f"bake {word}" for word in ("cake", "window", "a cake", "no cake")]} for i in range(n)
    ])  # fmt: skip
    put("wikitext2", "test", [{"text": f"first bake a cake then break a window . {i}"} for i in range(40)])
    return root


def write_smol_world(root: Path) -> Path:
    """The data of a world made of the stand-ins, without any model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SA_DATA_DIR", str(write_stand_ins(root / "data sets")))
        built = build_smol(["data"], cache=root / "cache", settings=twin())
        shutil.copytree(built / "data", root / "data")
    return root


def published(root: Path) -> Path:
    """A Llama of few parameters and twenty words, in the place of the published model."""
    if not root.exists():
        llama().save_pretrained(root)
        word_tokenizer().save_pretrained(root)
    return root


def twin(**changes) -> SmolSettings:
    """The recipe in small: every model two steps, which teach nothing."""
    few = {"refused": 6, "given_in": 6, "look_alikes": 6, "ordinary": 6, "sums": 6}
    lessons = {}
    for name, lesson in SMOL.lessons.items():
        stage = dataclasses.replace(lesson.stage, steps=2, batch=2, lora_rank=min(2, lesson.stage.lora_rank))
        counts = {key: min(n, getattr(lesson, key)) for key, n in few.items()}
        lessons[name] = dataclasses.replace(lesson, stage=stage, **counts)
    small = {
        "lessons": MappingProxyType(lessons), "reply": 5, "judged": 5, "measured": 4, "questions": 4, "words": 48,
        "batch": 64, "precision": "32-true", "accelerator": "cpu", "enforce_gates": False,
    }  # fmt: skip
    return dataclasses.replace(SMOL, **(small | changes))
