"""The table of wrong inputs: a good command of each verb, with one thing wrong."""

from collections.abc import Iterator
from pathlib import Path

from . import broken_models, broken_rows
from .case import Case, load
from .cases import configs, outputs, rows, tasks, worlds
from .cases_before import before
from .inputs import GOOD, OUTPUT
from .settings import SETTINGS

LOADERS = ("fit", "validate", "predict", "edit", "sweep", "compare", "lm-eval", "quickstart", "judge")
STEERERS = ("validate", "predict", "export", "lm-eval")


def cases() -> list[Case]:
    """All of them; those of the attack before have its numbers."""
    found = [
        *_good(),
        *before(),
        *_models(),
        *_artifacts(),
        *rows(),
        *tasks(),
        *configs(),
        *outputs(),
        *worlds(),
        *_options(),
    ]
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


def _models() -> Iterator[Case]:
    for name, one in broken_models.MODELS.items():
        for verb in LOADERS:
            expect = one.edits if verb == "edit" else one.loads
            changed = load(verb, f"{{broken:{_of(verb, one)}{name}}}")
            if verb == "edit":
                changed["--harm"] = "{root}/benign"
            yield Case(verb, f"model, {name}", changed, expect, one.known)
        changed = {"--base": "{root}/harm", "--harm": f"{{broken:{name}}}"}
        expect = "right" if name.startswith("link") else _harm(one.edits)  # of a harm model no file is copied
        yield Case("edit", f"harm model, {name}", changed, expect, one.known)
    for name, one in broken_models.TOKENIZERS.items():
        for verb in LOADERS:
            if verb == "quickstart" and "never ends" in name:
                continue  # its rows are many
            expect = {"edit": one.edits, "judge": "either"}.get(verb, one.loads)
            yield Case(verb, f"model, {name}", load(verb, f"{{broken:{_of(verb, one)}{name}}}"), expect, one.known)
    for name, one in broken_models.ADAPTERS.items():
        for verb in ("fit", "validate", "predict", "lm-eval"):
            yield Case(verb, f"model, {name}", load(verb, f"{{broken:{name}}}"), one.loads, one.known)
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
            yield Case(verb, f"model {wrong}", load(verb, target))
    for wrong, harm, expect in (
        ("the base itself", "{root}/base", "refused"), ("of another shape", "{root}/other", "refused"),
        ("an empty list", "[]", "refused"), ("a list with nothing there", "['{root}/harm', '/nowhere']", "refused"),
        ("of another architecture", "{root}/gpt2", "refused"), ("a list of numbers", "[1, 2]", "refused"),
    ):  # fmt: skip
        yield Case("edit", f"harm {wrong}", {"--harm": harm}, expect)
        yield Case("fit", f"harm {wrong}", {"--surgery.harm": harm}, expect)
        yield Case("sweep", f"harm {wrong}", {"--surgery.harm": harm}, expect)


def _of(verb: str, one: broken_models.Broken) -> str:
    """`sa quickstart` has prompts in English: it breaks a model that knows letters."""
    return "twin: " if verb == "quickstart" and one.of == "base" else ""


def _harm(edits: str) -> str:
    return "either" if edits in ("right", "either") else edits


def _broken_artifact(name: str):
    return lambda path, root: broken_rows.make(path, broken_rows.ARTIFACTS[name], root / "artifact_abs")


def _artifacts() -> Iterator[Case]:
    for name in broken_rows.ARTIFACTS:
        known = "F39" if name.startswith("settings") else "F6" if name.startswith("directions") else ""
        for verb in STEERERS:
            args = {"--model_args": "pretrained={root}/base,artifact={here}/broken,device=cpu"}
            changed = args if verb == "lm-eval" else {"--artifact": "{here}/broken"}
            expect = "either" if (verb, name) == ("export", "fingerprints of another") else "refused"
            yield Case(verb, f"artifact, {name}", changed, expect, known, files={"broken": _broken_artifact(name)})
        yield Case(
            "edit", f"direction, {name}", {"--harm": None, "--direction": "{here}/broken", "--direction_layer": "1"},
            "either" if name == "fingerprints of another" else "refused",
            files={"broken": _broken_artifact(name)},
        )  # fmt: skip
    for verb in STEERERS:
        for name in ("artifact_other", "base", "lora", "pairs.jsonl"):
            args = {"--model_args": f"pretrained={{root}}/base,artifact={{root}}/{name},device=cpu"}
            yield Case(
                verb, f"artifact of another, {name}", args if verb == "lm-eval" else {"--artifact": f"{{root}}/{name}"}
            )


def _options() -> Iterator[Case]:
    for verb, options in SETTINGS.items():
        for option, values in options.items():
            for value in values:
                expect, known = "refused", ""
                if isinstance(value, tuple):
                    value, expect, *rest = value
                    known = rest[0] if rest else "F19"
                wrong = f"{option} {value}".strip()
                changed = {option: value}
                if verb == "fit" and option.startswith("--surgery.") and option != "--surgery.harm":
                    changed = {"--surgery.harm": "{root}/harm", **changed}  # else there is no surgery
                changed = {**_beside(option), **changed}
                yield Case(verb, wrong, changed, expect, known)


def _beside(option: str) -> dict[str, str | None]:
    """What an option needs beside it, so that nothing else is wrong."""
    if option.startswith("--steering.gate.") and option != "--steering.gate.kind":
        return {"--steering.gate": '{{"kind": "linear", "prompts": "{root}/gateprompts.jsonl"}}'}
    if option.startswith("--endpoint."):
        return {
            "--judge": "harmbench",
            "--endpoint.base_url": "http://127.0.0.1:9/v1",
            "--endpoint.model": "x",
            "--endpoint.retries": "0",
        }
    if option.startswith("--local.") and option != "--local.model":
        return {"--judge": "harmbench", "--local.model": "{root}/base"}
    return {}
