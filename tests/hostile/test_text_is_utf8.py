"""Text is UTF-8 whatever the locale says: nothing in the package opens a file as text without saying so."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sa_lightning"
POSITION = {"read_text": 0, "write_text": 1}  # of the argument `encoding`
OPENERS = {"open": "r", "fdopen": "r", "TextIOWrapper": "r", "NamedTemporaryFile": "wb", "TemporaryFile": "wb"}
PROCESSES = {"run", "Popen", "check_output", "call", "check_call"}


def opens_text(call: ast.Call) -> bool:
    """Whether a call reads or writes text in whatever encoding the locale has."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    said = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in said or None in said:
        return False
    if name in POSITION:
        return len(call.args) <= POSITION[name]
    if name in PROCESSES:
        return any(ast.unparse(said.get(key, ast.Constant(False))) == "True" for key in ("text", "universal_newlines"))
    if name not in OPENERS:
        return False
    is_ours = name == "open" and isinstance(call.func, ast.Attribute) and call.args  # of a path, or of something else
    values = [node.value for node in (*call.args, *said.values()) if isinstance(node, ast.Constant)]
    modes = [value for value in values if isinstance(value, str) and value and set(value) <= set("rwxabt+")]
    return "b" not in (modes[0] if modes else "b" if is_ours else OPENERS[name])


def places(text: str) -> list[int]:
    return [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and opens_text(node)]


#: Calls of `open` that open no file: a directory that is being written, a web browser's page.
NO_FILES = ("PartialOutput(",)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_text_is_read_or_written_in_the_encoding_of_the_locale(path):
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    found = [number for number in places(text) if not any(name in lines[number - 1] for name in NO_FILES)]
    assert not found, f"{path}: text without an encoding in the lines {found}"


@pytest.mark.parametrize(
    "code",
    [
        "open(p)", "open(p, 'w')", "p.open()", "p.open('a')", "p.read_text()", "p.write_text(t)",
        "os.fdopen(h, 'w')", "gzip.open(p, 'rt')", "run(c, text=True)", "io.TextIOWrapper(f)",
        "NamedTemporaryFile('w')", "open(p, mode='r+')",
    ],
)  # fmt: skip
def test_what_is_looked_for_is_found(code):
    assert places(code)
    assert not places(code.removesuffix(")") + ("" if code.endswith("()") else ", ") + "encoding='utf-8')")


@pytest.mark.parametrize(
    "code", ["open(p, 'rb')", "p.open('ab')", "os.fdopen(h, 'wb')", "surgery.open(target)", "run(c)", "p.read_bytes()"]
)
def test_bytes_have_none(code):
    assert not places(code)
