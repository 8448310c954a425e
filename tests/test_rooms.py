"""Imports go downwards only: each room may know what the table says, besides the standard library and torch."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sa_lightning"
FLOOR_1 = {"safetensors", "huggingface_hub", "jaxtyping"}
METHODS = {"surgery", "steering", "models", "diagnostics"}
FRAMEWORK = {"lightning", "torchmetrics", "transformers", "datasets", "jaxtyping"}

MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "rows": {"openpyxl", "pyarrow"},
    "resources": set(),
    "__init__": {"steering", "steered"},
    "__main__": {"cli"},
    "models": {"transformers", "peft", "jaxtyping", "filelock", "gguf"},
    "surgery": FLOOR_1 | {"peft", "numpy", "xxhash"},
    "steering": FLOOR_1,
    "diagnostics": FLOOR_1,
    "steered": {"steering", "models"},
    "extraction": {"steering", "models", "transformers", "jaxtyping"},
    "fitting": {"steering", "models", "surgery", "steered", "jaxtyping"},
    "datamodules": METHODS | FRAMEWORK | {"extraction"},
    "callbacks": METHODS | FRAMEWORK | {"steered", "extraction", "fitting", "safetensors"},
    "module": METHODS | FRAMEWORK,
    "testbed": {
        *("steering", "models", "lightning", "transformers", "tokenizers", "peft", "safetensors"),
        *("filelock", "rich", "requests"),
        *("datamodules", "evaluation"),  # the real world reads public prompts, and our detector judges its gates
    },
    "evaluation": {
        *("steering", "models", "datamodules", "transformers", "torchmetrics", "datasets", "requests"),
        *("scipy", "statsmodels", "numpy", "matplotlib", "rich", "jinja2"),
    },
    "export": METHODS | {"transformers", "gguf"},
}
GROUND = {"errors", "files", "rows", "resources"}  # which every room may know
EXTRA = {f"evaluation/{name}.py": {"lm_eval"} for name in ("harness", "catalogue", "lm")}


def imports(path: Path) -> set[str]:
    """Rooms of ours and packages of others that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            parts = name.split(".")
            found.add(parts[1] if parts[0] == "sa_lightning" and len(parts) > 1 else parts[0])
    return found - set(sys.stdlib_module_names) - GROUND - {"torch", "typing_extensions", "sa_lightning"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path):
    relative = path.relative_to(PACKAGE)
    room = relative.parts[0].removesuffix(".py")
    if room == "cli":
        return
    allowed = MAY_IMPORT[room] | {room} | EXTRA.get(str(relative), set())
    beyond = sorted(imports(path) - allowed)
    assert not beyond, f"{relative} may not import {beyond}; the room may import {sorted(allowed)}"


def test_the_front_of_the_command_line_imports_nothing_heavy():
    assert imports(PACKAGE / "cli" / "__init__.py") == set()
