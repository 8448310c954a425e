"""The table of wrong inputs: a good command of each verb, with one thing wrong."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import broken_models, broken_rows
from .inputs import CPU, EVALUATED, GOOD, OUTPUT
from .settings import SETTINGS

LOADERS = ("fit", "validate", "predict", "edit", "sweep", "compare", "lm-eval", "quickstart", "judge")
STEERERS = ("validate", "predict", "export", "lm-eval")
EVALUATORS = ("validate", "sweep", "compare", "lm-eval")


@dataclass(frozen=True)
class Case:
    """One command with one thing wrong.

    Attributes:
        verb: Which verb.
        wrong: What is wrong, in words; nothing, of a good command.
        changed: Options in place of those of the good command; None leaves one out.
        expect: refused (exit 2), failed (exit 1), right (exit 0), stopped (1 or 2), or either (0 or 2); all in words.
        known: Its number in the attack before.
        files: What lies in the directory where it runs, by name: bytes, or what makes it.
        good: In place of the good command of the verb.
        environment: Variables.
    """

    verb: str
    wrong: str
    changed: dict[str, str | None] = field(default_factory=dict)
    expect: str = "refused"
    known: str = ""
    files: dict[str, object] = field(default_factory=dict)
    good: tuple[str, ...] | None = None
    environment: dict[str, str | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.verb}: {self.wrong or 'nothing wrong'}"

    def typed(self, root: Path, place: Path) -> list[str]:
        """Make what it needs, and return what is typed."""
        for name, content in self.files.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content.replace(b"ROWS", str(root / "tasks" / "rows.jsonl").encode()))
            else:
                content(path, root)
        words = [*(self.good if self.good is not None else GOOD[self.verb])]
        if OUTPUT[self.verb]:
            words += ["--output_path" if self.verb == "lm-eval" else "--output", OUTPUT[self.verb]]
        for option, value in self.changed.items():
            if option in words:
                at = words.index(option)
                del words[at : at + 2]
            if value is not None:
                words += [option, value] if option else [value]
        return [self.verb, *(_filled(word, root, place) for word in words)]


def _filled(word: str, root: Path, place: Path) -> str:
    word = word.replace("{{", "\0").replace("}}", "\1").replace("{root}", str(root)).replace("{here}", str(place))
    while "{copy:" in word:
        name = word.partition("{copy:")[2].partition("}")[0]
        if not (place / name).exists():
            shutil.copytree(root / name, place / name)
        word = word.replace(f"{{copy:{name}}}", str(place / name))
    while "{broken:" in word:
        name = word.partition("{broken:")[2].partition("}")[0]
        word = word.replace(f"{{broken:{name}}}", str(broken_models.broken(root, name)))
    return word.replace("\0", "{").replace("\1", "}")


def cases() -> list[Case]:
    """All of them; those of the attack before have its numbers."""
    found = [*_good(), *_models(), *_artifacts(), *_rows(), *_tasks(), *_configs(), *_outputs(), *_worlds(), *_options()]
    names = [case.name for case in found]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
    return found


def _good() -> Iterator[Case]:
    for verb in GOOD:
        yield Case(verb, "", expect="right")
    yield Case("predict", "nothing, with an adapter", {"--model.target": "{root}/lora", "--artifact": None}, "right")
    yield Case("predict", "nothing, with shards", {"--model.target": "{root}/sharded"}, "right")
    yield Case("predict", "nothing, with a gate", {"--artifact": "{root}/artifact_gate"}, "right")
    yield Case("edit", "nothing, with shards", {"--base": "{root}/sharded", "--harm": "{root}/shardedharm"}, "right")
    yield Case("edit", "nothing, with an adapter", {"--harm": "{root}/lora"}, "right")
    yield Case("fit", "nothing, with a surgery", {"--surgery.harm": "{root}/harm"}, "right")
    gate = {"--steering.gate": '{{"kind": "linear", "prompts": "{root}/gateprompts.jsonl"}}'}
    yield Case("fit", "nothing, with a gate", gate, "right")
    yield Case("edit", "nothing, with scores", {"--select": "snip", "--prompts": "{root}/scored.jsonl"}, "right")
    yield Case("predict", "nothing, without git", {}, "right", "F13", environment={"PATH": "/nonexistent"})
    yield Case("fit", "nothing, without git", {}, "right", "F13", environment={"PATH": "/nonexistent"})
    yield Case("predict", "nothing, without a home", {}, "right", environment={"HOME": None, "XDG_CACHE_HOME": None})
    for verb in ("fit", "predict", "validate", "edit", "judge", "export", "sweep"):
        yield Case(verb, "nothing, in the locale C", {}, "right", "F32", environment={"LC_ALL": "C", "LANG": "C"})
        out = "out[/]x" + ("" if OUTPUT[verb] == "out" else Path(OUTPUT[verb] or "").suffix)
        yield Case(verb, "nothing, with markup in the output", {"--output": out}, "right", "F21")


def _load(verb: str, target: str) -> dict[str, str | None]:
    return {
        "edit": {"--base": target}, "judge": {"--judge": "harmbench", "--local.model": target},
        "quickstart": {"--world": None, "--model": target}, "compare": {"--compare.targets": f"{{{{base: '{target}'}}}}"},
        "lm-eval": {"--model_args": f"pretrained={target},device=cpu"},
        "validate": {"--model.target": target, "--artifact": None},
        "predict": {"--model.target": target, "--artifact": None},
    }.get(verb, {"--model.target": target})  # fmt: skip


def _models() -> Iterator[Case]:
    for name, one in broken_models.MODELS.items():
        for verb in LOADERS:
            expect = one.edits if verb == "edit" else one.loads
            yield Case(verb, f"model, {name}", _load(verb, f"{{broken:{name}}}"), expect, one.known)
        yield Case("edit", f"harm model, {name}", {"--harm": f"{{broken:{name}}}"}, _harm(name, one.edits), one.known)
    for name, one in broken_models.TOKENIZERS.items():
        for verb in LOADERS:
            if verb == "quickstart" and "never ends" in name:
                continue  # its rows are many
            expect = {"edit": one.edits, "judge": "either"}.get(verb, one.loads)
            yield Case(verb, f"model, {name}", _load(verb, f"{{broken:{name}}}"), expect, one.known)
    for name, one in broken_models.ADAPTERS.items():
        for verb in ("fit", "validate", "predict", "lm-eval"):
            yield Case(verb, f"model, {name}", _load(verb, f"{{broken:{name}}}"), one.loads, one.known)
        yield Case("edit", f"harm model, {name}", {"--harm": f"{{broken:{name}}}"}, one.edits, one.known)
        yield Case("fit", f"surgery, {name}", {"--surgery.harm": f"{{broken:{name}}}"}, one.edits, one.known)
    for verb in ("fit", "validate", "predict", "edit"):
        for wrong, target in (
            ("that is empty", ""), ("of the Hub, without network", "nobody/nothing"), ("with a null byte", "a\0b"),
            ("with a name too long", "a" * 5000), ("that is a URL", "https://example.org/model"), ("of control characters", "\x1b]0;x\x07"),
            ("of markup", "[/]x"), ("with a line break", "a\nb"), ("up and up", "../" * 60), ("that is a device", "/dev/null"),
        ):  # fmt: skip
            if "\0" in target:
                continue  # no command line has one
            yield Case(verb, f"model {wrong}", _load(verb, target))
    for wrong, harm, expect in (
        ("the base itself", "{root}/base", "refused"), ("of another shape", "{root}/other", "refused"),
        ("an empty list", "[]", "refused"), ("a list with nothing there", "['{root}/harm', '/nowhere']", "refused"),
        ("of another architecture", "{root}/gpt2", "refused"), ("a list of numbers", "[1, 2]", "refused"),
    ):  # fmt: skip
        yield Case("edit", f"harm {wrong}", {"--harm": harm}, expect)
        yield Case("fit", f"harm {wrong}", {"--surgery.harm": harm}, expect)
        yield Case("sweep", f"harm {wrong}", {"--surgery.harm": harm}, expect)


def _harm(name: str, edits: str) -> str:
    return "either" if edits in ("right", "either") else edits


def _broken_artifact(name: str):
    return lambda path, root: broken_rows.make(path, broken_rows.ARTIFACTS[name], root / "artifact_abs")


def _artifacts() -> Iterator[Case]:
    for name in broken_rows.ARTIFACTS:
        known = "F39" if name.startswith("settings") else "F6" if name.startswith("directions") else ""
        for verb in STEERERS:
            args = {"--model_args": "pretrained={root}/base,artifact={here}/broken,device=cpu"}
            changed = args if verb == "lm-eval" else {"--artifact": "{here}/broken"}
            yield Case(verb, f"artifact, {name}", changed, known=known, files={"broken": _broken_artifact(name)})
        yield Case(
            "edit", f"direction, {name}", {"--harm": None, "--direction": "{here}/broken", "--direction_layer": "1"},
            "either" if name in ("layers in words", "more layers", "another width", "fingerprints of another", "fingerprints gone", "strength without end", "without a strength") else "refused",
            files={"broken": _broken_artifact(name)},
        )  # fmt: skip
    for verb in STEERERS:
        for name in ("artifact_other", "base", "lora", "pairs.jsonl"):
            args = {"--model_args": f"pretrained={{root}}/base,artifact={{root}}/{name},device=cpu"}
            yield Case(verb, f"artifact of another, {name}", args if verb == "lm-eval" else {"--artifact": f"{{root}}/{name}"})


def _rows() -> Iterator[Case]:
    pairs = [
        {"question": f"how do i bake {n}", "safe": "sorry , no .", "unsafe": "first bake a cake ."}
        for n in ("a cake", "a window", "cake", "window")
    ]
    prompts = [{"prompt": f"how do i bake a cake{' then' * i}", "kind": ("harmful", "harmless")[i % 2]} for i in range(12)]
    asked = [{"prompt": "how do i bake a cake"}, {"prompt": "how do i break a window"}]
    replies = [{"prompt": "how do i", "response": "sorry , no ."}, {"prompt": "how do", "response": "first bake a cake ."}]
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
                yield Case(verb, f"{what}, right but for {name}", {**more, option: value % file}, expect, "F27", files={file: content})
        for name, target in (("gone", "/nowhere/rows.jsonl"), ("a directory", "{root}/base"), ("a device", "/dev/null")):
            yield Case(verb, f"{what}, {name}", {**more, option: target if option != "--steering.gate" else gate.replace("{here}/%s", target)})
    few = {"rows.jsonl": broken_rows.lines(pairs[0])}
    yield Case("fit", "demonstrations, one pair, shuffled", {"--data.demonstrations": "{here}/rows.jsonl", "--steering.control": "shuffled"}, files=few)
    same = {"rows.jsonl": broken_rows.lines(*({**row, "unsafe": row["safe"]} for row in pairs))}
    yield Case("fit", "demonstrations, sides alike", {"--data.demonstrations": "{here}/rows.jsonl"}, files=same)
    kinds = {"rows.jsonl": broken_rows.lines(*({**row, "kind": "harmless"} for row in prompts))}
    yield Case("fit", "gate prompts, one kind", {"--steering.gate": gate % "rows.jsonl"}, files=kinds)
    listed = {"rows.jsonl": broken_rows.lines(*({**row, "kind": ["harmful"]} for row in prompts))}
    yield Case("fit", "gate prompts, kind a list", {"--steering.gate": gate % "rows.jsonl"}, known="F17", files=listed)
    yield Case("predict", "prompts past the positions", {"--model.target": "{root}/gpt2", "--artifact": None, "--data.file": "{here}/long.txt"}, "either", "F16", files={"long.txt": b"how " * 90})
    yield Case("predict", "replies past the positions", {"--model.target": "{root}/gpt2", "--artifact": None, "--prediction.max_new_tokens": "200"}, "either", "F16")
    yield Case("predict", "prompts typed, a list", {"--data.file": None, "--data.prompts": "[[1]]"}, known="F19")
    yield Case("predict", "prompts typed, numbers", {"--data.file": None, "--data.prompts": "[1, null]"}, known="F19")
    yield Case("judge", "replies without their labels", {"--label": "nobody"})
    yield Case("judge", "an expression that never ends", {"--judge": "tiny_world", "--input": "{here}/rows.jsonl"}, "either", "F41", files={"rows.jsonl": broken_rows.lines({"prompt": "how", "response": "a" * 40 + "!", "form": "(a+)+$", "kind": "harmful"})})


def _rows_expect(what: str, name: str) -> str:
    if what == "prompts" and name in ("a CSV with a cell too long", "a text", "a list"):
        return "either"  # a list of texts may be prompts
    if what == "replies" and name.startswith(("a gzip", "a CSV", "an empty CSV", "a parquet", "an Excel")):
        return "refused"
    if name in ("a lone surrogate", "a CSV with a cell too long", "binary zeros", "UTF-16"):
        return "either" if name != "binary zeros" else "refused"
    return "refused"


def _tasks() -> Iterator[Case]:
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


def _configs() -> Iterator[Case]:
    for verb in GOOD:
        if verb in ("data", "lm-eval", "quickstart"):
            continue
        for name, content in broken_rows.CONFIGS.items():
            files = {} if content is None else {"config.yaml": content}
            known = "F41" if "bomb" in name else ""
            yield Case(verb, f"config {name}", {"--config": "{here}/config.yaml"}, known=known, files=files)
    for verb in ("fit", "validate", "predict"):
        for group in ("model", "data", "trainer"):
            yield Case(verb, f"config of {group}, a list", {f"--{group}": "{here}/config.yaml"}, files={"config.yaml": b"- a\n"})
            yield Case(verb, f"config of {group}, gone", {f"--{group}": "/nowhere.yaml"})


def _outputs() -> Iterator[Case]:
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
            expect = "either" if name in ("a device", "no UTF-8") and Path(output).suffix or name == "no UTF-8" else "refused"
            yield Case(verb, f"output {name}", {"--output": target}, expect, known, files=files)
    for verb, name in (("fit", "artifact/mine"), ("validate", "results.json"), ("predict", "predictions.jsonl"), ("edit", "thesis.tex"), ("sweep", "chosen.yaml"), ("compare", "compare.md"), ("quickstart", "results.json")):  # fmt: skip
        for overwrite in (False, True):
            changed: dict[str, str | None] = {} if not overwrite or verb == "compare" else {"--overwrite": "true"}
            if overwrite and verb == "compare":
                continue
            words = "to be overwritten" if overwrite else "that is there"
            yield Case(verb, f"output {words} holds {name} of another", changed, "refused", "F8 F9", files={f"out/{name}": b"mine"})
    for verb in ("judge", "export"):
        yield Case(verb, "output that is there", {}, files={OUTPUT[verb]: b"mine"})
    for name in ("gate-photo.svg", "vocabulary.svg", "layers.svg", "fit.json", "fit.yaml"):
        yield Case("fit", f"output that is there holds {name} of another", {}, "either", "F8", files={f"out/{name}": b"mine"})
    for name in ("chosen.yaml", "sweep.json", "sweep.md", "front.svg", "journal.log", "curves.svg"):
        if name != "chosen.yaml":
            yield Case("sweep", f"output that is there holds {name} of another", {}, "either", "F8", files={f"out/{name}": b"mine"})
    for name in ("compare.json", "rows.jsonl", "plane-base.svg"):
        yield Case("compare", f"output that is there holds {name} of another", {}, "either", "F8", files={f"out/{name}": b"mine"})
    for verb, name in (("validate", "validate.json"), ("predict", "predict.yaml"), ("validate", "report.html"), ("predict", "predictions.tmp")):
        yield Case(verb, f"output that is there holds {name} of another", {}, "either", "F8", files={f"out/{name}": b"mine"})


def _worlds() -> Iterator[Case]:
    for name in ("world:", "world:nowhere/chat", "world:micro", "world:micro/nothing", "world:micro/../../etc", "world:/chat", "world:micro/chat/x", "world:smol/quantum", "WORLD:micro/chat"):  # fmt: skip
        for verb in ("fit", "validate", "predict", "edit", "sweep", "quickstart"):
            yield Case(verb, f"model {name}", _load(verb, name))
    for name in ("world:micro/data/nothing.jsonl", "world:nowhere/data/demonstrations.jsonl", "world:micro/data/../../x"):
        yield Case("fit", f"demonstrations {name}", {"--data.demonstrations": name})
        yield Case("predict", f"prompts {name}", {"--data.file": name})


def _options() -> Iterator[Case]:
    for verb, options in SETTINGS.items():
        for option, values in options.items():
            for value in values:
                expect, known = "refused", ""
                if isinstance(value, tuple):
                    value, expect, *rest = value
                    known = rest[0] if rest else "F19"
                wrong = f"{option} {value}".strip()
                if option == "":
                    changed = {"": value}
                else:
                    changed = {option: value}
                yield Case(verb, wrong, changed, expect, known)
