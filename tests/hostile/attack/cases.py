"""Cases of the table that are about files: rows, tasks, configs, outputs, and names of worlds."""

from collections.abc import Iterator
from pathlib import Path

from . import broken_rows
from .case import EVALUATORS, Case, load
from .inputs import GOOD, OUTPUT


def rows() -> Iterator[Case]:
    pairs = [
        {"question": f"how do i bake {n}", "safe": "sorry , no .", "unsafe": "first bake a cake ."}
        for n in ("a cake", "a window", "cake", "window")
    ]
    prompts = [
        {"prompt": f"how do i bake a cake{' then' * (i // 2)}{' .' * (i % 2)}", "kind": ("harmful", "harmless")[i % 2]}
        for i in range(80)
    ]
    asked = [{"prompt": "how do i bake a cake"}, {"prompt": "how do i break a window"}]
    replies = [
        {"prompt": "how do i", "response": "sorry , no ."},
        {"prompt": "how do", "response": "first bake a cake ."},
    ]
    scored = [{"prompt": "how do i bake", "response": "first bake a cake ."}] * 4
    gate = '{{"kind": "linear", "prompts": "{here}/%s"}}'
    for verb, what, rows, column, option, value in (
        ("fit", "demonstrations", pairs, "safe", "--data.demonstrations", "{here}/%s"),
        ("fit", "gate prompts", prompts, "prompt", "--steering.gate", gate),
        ("fit", "ordinary prompts", asked * 8, "prompt", "--steering.ordinary", "{here}/%s"),
        ("predict", "prompts", asked, "prompt", "--data.file", "{here}/%s"),
        ("judge", "replies", replies, "response", "--input", "{here}/%s"),
        ("edit", "scored prompts", scored, "response", "--prompts", "{here}/%s"),
    ):
        more: dict[str, str | None] = {"--select": "snip"} if verb == "edit" else {}
        if option == "--steering.ordinary":
            more = {"--steering.strength": "auto"}
        for name, (suffix, content) in broken_rows.wrong_files(rows, column).items():
            file = f"rows{suffix}"
            yield Case(
                verb, f"{what}, {name}", {**more, option: value % file}, _rows_expect(what, name),
                "F17" if verb in ("fit", "predict") else "", files={file: content},
            )  # fmt: skip
        if option != "--steering.ordinary":
            for name, (suffix, content) in broken_rows.right_files(rows, column).items():
                expect = "right" if suffix == ".jsonl" or what != "replies" else "either"
                file = f"rows{suffix}"
                yield Case(
                    verb,
                    f"{what}, right but for {name}",
                    {**more, option: value % file},
                    expect,
                    "F27",
                    files={file: content},
                )
        for name, target in (
            ("gone", "/nowhere/rows.jsonl"),
            ("a directory", "{root}/base"),
            ("a device", "/dev/null"),
        ):
            yield Case(
                verb,
                f"{what}, {name}",
                {**more, option: target if option != "--steering.gate" else gate.replace("{here}/%s", target)},
            )
    few = {"rows.jsonl": broken_rows.lines(pairs[0])}
    yield Case(
        "fit",
        "demonstrations, one pair, shuffled",
        {"--data.demonstrations": "{here}/rows.jsonl", "--steering.control": "shuffled"},
        files=few,
    )
    same = {"rows.jsonl": broken_rows.lines(*({**row, "unsafe": row["safe"]} for row in pairs))}
    yield Case("fit", "demonstrations, sides alike", {"--data.demonstrations": "{here}/rows.jsonl"}, files=same)
    kinds = {"rows.jsonl": broken_rows.lines(*({**row, "kind": "harmless"} for row in prompts))}
    yield Case("fit", "gate prompts, one kind", {"--steering.gate": gate % "rows.jsonl"}, files=kinds)
    listed = {"rows.jsonl": broken_rows.lines(*({**row, "kind": ["harmful"]} for row in prompts))}
    yield Case("fit", "gate prompts, kind a list", {"--steering.gate": gate % "rows.jsonl"}, known="F17", files=listed)
    yield Case(
        "predict",
        "prompts past the positions",
        {"--model.target": "{root}/gpt2", "--artifact": None, "--data.file": "{here}/long.txt"},
        "either",
        "F16",
        files={"long.txt": b"how " * 90},
    )
    yield Case(
        "predict",
        "replies past the positions",
        {"--model.target": "{root}/gpt2", "--artifact": None, "--prediction.max_new_tokens": "200"},
        "either",
        "F16",
    )
    yield Case("predict", "prompts typed, a list", {"--data.file": None, "--data.prompts": "[[1]]"}, known="F19")
    yield Case("predict", "prompts typed, numbers", {"--data.file": None, "--data.prompts": "[1, null]"}, known="F19")
    yield Case("judge", "replies without their labels", {"--label": "nobody"})
    yield Case(
        "judge",
        "an expression that never ends",
        {"--judge": "tiny_world", "--input": "{here}/rows.jsonl"},
        "either",
        "F41",
        files={
            "rows.jsonl": broken_rows.lines(
                {"prompt": "how", "response": "a" * 40 + "!", "form": "(a+)+$", "kind": "harmful"}
            )
        },
    )


def _rows_expect(what: str, name: str) -> str:
    if what == "prompts" and name in ("a CSV with a cell too long", "a text", "a list"):
        return "either"  # a list of texts may be prompts
    if what == "ordinary prompts" and name == "a text":
        return "either"
    if what == "replies" and name.startswith(("a gzip", "a CSV", "an empty CSV", "a parquet", "an Excel")):
        return "refused"
    if name in ("a lone surrogate", "a CSV with a cell too long", "binary zeros", "UTF-16"):
        return "either" if name != "binary zeros" else "refused"
    return "refused"


def tasks() -> Iterator[Case]:
    for name, content in broken_rows.TASKS.items():
        for verb in EVALUATORS:
            if verb == "lm-eval":
                changed: dict[str, str | None] = {"--include_path": "{here}/tasks", "--tasks": "hostile"}
            else:
                changed = {"--evaluation.tasks": "[hostile]", "--evaluation.task_dirs": "[{here}/tasks]"}
            if verb == "compare":
                changed["--evaluation.limit"] = "2"
            known = "F41" if "bomb" in name else "F19"
            yield Case(verb, f"task file {name}", changed, "stopped", known, files={"tasks/hostile.yaml": content})
    for verb in EVALUATORS[:3]:
        yield Case(verb, "task directory gone", {"--evaluation.task_dirs": "[/nowhere]"})
        yield Case(verb, "task directory a file", {"--evaluation.task_dirs": "[{root}/pairs.jsonl]"})
        yield Case(verb, "task unknown", {"--evaluation.tasks": "[quantum]"})
        yield Case(verb, "no tasks", {"--evaluation.tasks": "[]"})
        yield Case(verb, "task a number", {"--evaluation.tasks": "[7]"})
        yield Case(verb, "task a path", {"--evaluation.tasks": "[/etc/passwd]"})


def configs() -> Iterator[Case]:
    for verb in GOOD:
        if verb in ("data", "lm-eval", "quickstart"):
            continue
        for name, content in broken_rows.CONFIGS.items():
            files = {} if content is None else {"config.yaml": content}
            known = "F41" if "bomb" in name else ""
            yield Case(verb, f"config {name}", {"--config": "{here}/config.yaml"}, known=known, files=files)
    for verb in ("fit", "validate", "predict"):
        for group in ("model", "data", "trainer"):
            yield Case(
                verb,
                f"config of {group}, a list",
                {f"--{group}": "{here}/config.yaml"},
                files={"config.yaml": b"- a\n"},
            )
            yield Case(verb, f"config of {group}, gone", {f"--{group}": "/nowhere.yaml"})


def outputs() -> Iterator[Case]:
    def wrong(verb: str):
        file = Path(OUTPUT[verb] or "").suffix
        yield "a file", "{here}/there", {"there": b"mine"} if not file else {}, ""
        yield "below a file", "{here}/there/out" + file, {"there": b"mine"}, "F31"
        yield "in /proc", "/proc/nothing/out" + file, {}, "F31"
        yield "too long", "{here}/" + "a" * 300 + file, {}, "F31"
        yield "no UTF-8", "{here}/a\udcff" + file, {}, "F18"
        yield "empty", "", {}, ""
        yield "a device", "/dev/null" + ("" if file else "/out"), {}, "F31"

    for verb, output in OUTPUT.items():
        if output is None or verb == "lm-eval":
            continue
        for name, target, files, known in wrong(verb):
            if name == "a file" and Path(output).suffix:
                continue
            expect = (
                "either"
                if (name in ("a device", "no UTF-8") and Path(output).suffix) or name == "no UTF-8"
                else "refused"
            )
            yield Case(verb, f"output {name}", {"--output": target}, expect, known, files=files)
    for verb, name in (("fit", "artifact/mine"), ("validate", "results.json"), ("predict", "predictions.jsonl"), ("edit", "thesis.tex"), ("sweep", "chosen.yaml"), ("compare", "compare.md"), ("quickstart", "results.json")):  # fmt: skip
        for overwrite in (False, True):
            changed: dict[str, str | None] = {} if not overwrite or verb == "compare" else {"--overwrite": "true"}
            if overwrite and verb == "compare":
                continue
            words = "to be overwritten" if overwrite else "that is there"
            yield Case(
                verb,
                f"output {words} holds {name} of another",
                changed,
                "refused",
                "F8 F9",
                files={f"out/{name}": b"mine"},
            )
    for verb in ("judge", "export"):
        yield Case(verb, "output that is there", {}, files={OUTPUT[verb]: b"mine"})
    for name in ("gate-photo.svg", "vocabulary.svg", "layers.svg", "fit.json", "fit.yaml"):
        yield Case(
            "fit", f"output that is there holds {name} of another", {}, "either", "F8", files={f"out/{name}": b"mine"}
        )
    for name in ("chosen.yaml", "sweep.json", "sweep.md", "front.svg", "journal.log", "curves.svg"):
        if name != "chosen.yaml":
            yield Case(
                "sweep",
                f"output that is there holds {name} of another",
                {},
                "either",
                "F8",
                files={f"out/{name}": b"mine"},
            )
    for name in ("compare.json", "rows.jsonl", "plane-base.svg"):
        yield Case(
            "compare",
            f"output that is there holds {name} of another",
            {},
            "either",
            "F8",
            files={f"out/{name}": b"mine"},
        )
    for verb, name in (
        ("validate", "validate.json"),
        ("predict", "predict.yaml"),
        ("validate", "report.html"),
        ("predict", "predictions.tmp"),
    ):
        yield Case(
            verb, f"output that is there holds {name} of another", {}, "either", "F8", files={f"out/{name}": b"mine"}
        )


def worlds() -> Iterator[Case]:
    for name in ("world:", "world:nowhere/chat", "world:micro", "world:micro/nothing", "world:micro/../../etc", "world:/chat", "world:micro/chat/x", "world:smol/quantum", "WORLD:micro/chat"):  # fmt: skip
        for verb in ("fit", "validate", "predict", "edit", "sweep", "quickstart"):
            yield Case(verb, f"model {name}", load(verb, name))
    for name in (
        "world:micro/data/nothing.jsonl",
        "world:nowhere/data/demonstrations.jsonl",
        "world:micro/data/../../x",
    ):
        yield Case("fit", f"demonstrations {name}", {"--data.demonstrations": name})
        yield Case("predict", f"prompts {name}", {"--data.file": name})
