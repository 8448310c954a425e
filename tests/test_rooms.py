"""The house: who may know whom, no circle, no import that runs up, no folder that has become a drawer."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sa_lightning"
MOST = 12  # Python files of a folder, `__init__` and `__main__` aside
FLOORS = (
    # The ground, which every room may know.
    (
        "errors",
        "ranges",
        "files",
        "weight_files",
        "source",
        "rows",
        "resources",
        "progress",
        "outputs",
        "schema",
        "foreign",
    ),
    ("models", "data", "surgery"),
    ("steering",),
    ("steered", "fitting", "facts", "module", "evaluation", "testbed"),
    ("names", "finetune", "datamodules", "callbacks"),
    ("export",),
    ("experiments",),
    ("cli",),
)
GROUND = set(FLOORS[0])
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

#: What each room may import besides the ground, the standard library and torch; `cli` may import everything.
MAY_IMPORT = {
    "errors": set(),
    "ranges": set(),
    "files": set(),
    "schema": set(),
    "weight_files": set(),
    "source": set(),
    "outputs": set(),
    "rows": {"openpyxl", "pyarrow"},
    "resources": set(),
    "foreign": {"yaml", "rich"},
    "progress": {"rich"},
    "__init__": {"steering", "steered"},
    "__main__": {"cli"},
    "models": {"surgery", "transformers", "peft", "jaxtyping", "filelock", "gguf"},
    "data": {"datasets"},
    "surgery": {"safetensors", "huggingface_hub", "jaxtyping", "numpy", "xxhash"},
    "steering": {"safetensors", "huggingface_hub", "jaxtyping", "scipy", "sklearn"},
    "steered": {"steering", "models"},
    "fitting": {"steering", "models", "surgery", "steered", "facts", "transformers", "jaxtyping"},
    "facts": {"data", "models", "steering", "surgery", "transformers", "safetensors", "jaxtyping"},
    "module": {"models", "steering", "lightning", "transformers"},
    "evaluation": {
        *("data", "facts", "models", "steering", "transformers", "datasets", "requests", "urllib3"),
        *("scipy", "sklearn", "statsmodels", "numpy", "matplotlib", "rich", "jinja2", "yaml"),
    },
    "testbed": {
        *("data", "evaluation", "models", "steering", "lightning", "transformers", "tokenizers", "peft"),
        *("filelock", "rich", "requests"),
    },
    "names": {"models", "testbed"},
    "finetune": {"models", "testbed", "lightning"},
    "datamodules": {"models", "lightning", "fitting"},
    "callbacks": {
        *("steered", "fitting", "steering", "surgery", "models", "lightning", "torchmetrics"),
        *("safetensors", "jaxtyping"),
    },
    "export": {
        *("names", "evaluation", "fitting", "steering", "steered", "module", "models", "surgery", "transformers"),
        *("lm_eval", "peft", "safetensors"),
    },
    "experiments": {
        *(
            "callbacks",
            "datamodules",
            "evaluation",
            "fitting",
            "module",
            "names",
            "steered",
            "steering",
            "surgery",
            "testbed",
        ),
        *("jsonargparse", "lightning", "rich", "yaml", "numpy", "matplotlib", "optuna", "scipy"),
    },
}
#: What one file may import besides: lm-eval is met in the harness alone, and consumers of exports where they are read.
EXTRA = {
    "export/readers.py": {"gguf", "numpy", "repeng", "steering_vectors"},
    "export/vectors.py": {"gguf"},
    "evaluation/harness/harness.py": {"lm_eval"},
    "evaluation/harness/in_memory.py": {"lm_eval"},
    "evaluation/tasks/catalogue.py": {"lm_eval"},
    "evaluation/tasks/foreign.py": {"lm_eval"},
}
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def names_in(file: str) -> set[str]:
    """Dotted names of all that a file imports, at any depth of it, also for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(FILES[file].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def files_of_ours(file: str) -> set[str]:
    """Files of ours that a file imports; of a room's `__init__`, where that is named."""
    found = set()
    for name in names_in(file):
        first, *parts = name.split(".")
        while first == "sa_lightning" and parts:
            place = "/".join(parts)
            hit = next((path for path in (f"{place}.py", f"{place}/__init__.py") if path in FILES), None)
            if hit:
                found.add(hit)
                break
            parts.pop()
    return found - {file}


def room_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


@cache
def imports(file: str) -> set[str]:
    """Rooms of ours and packages of others that a file imports."""
    ours = {room_of(other) for other in files_of_ours(file)}
    theirs = {name.split(".")[0] for name in names_in(file)} - {"sa_lightning"}
    return (
        (ours | theirs)
        - set(sys.stdlib_module_names)
        - GROUND
        - {"torch", "typing_extensions", "__init__", room_of(file)}
    )


@pytest.mark.parametrize("file", FILES)
def test_imports_go_downwards_only(file):
    room = room_of(file)
    if room != "cli":
        beyond = sorted(imports(file) - MAY_IMPORT[room] - EXTRA.get(file, set()))
        assert not beyond, f"{file} may not import {beyond}; the room may import {sorted(MAY_IMPORT[room])}"
    if room in FLOOR:
        up = sorted(other for other in files_of_ours(file) if FLOOR.get(room_of(other), -1) > FLOOR[room])
        assert not up, f"{file} imports {up}, which is above it"


def test_nothing_is_permitted_that_nobody_does():
    unused = {
        room: sorted(allowed - set().union(*(imports(file) for file in FILES if room_of(file) == room)))
        for room, allowed in MAY_IMPORT.items()
    }
    unused |= {file: sorted(allowed - imports(file)) for file, allowed in EXTRA.items()}
    assert not {place: names for place, names in unused.items() if names}


def circles() -> list[list[str]]:
    """Files that lead back to themselves; a room's `__init__`, which gathers its files, leads nowhere here."""
    ways = {file: {o for o in files_of_ours(file) if not o.endswith("__init__.py")} for file in FILES}
    found = []
    for start in ways:
        seen, todo = set(), list(ways[start])
        while todo:
            file = todo.pop()
            if file not in seen:
                seen.add(file)
                todo += ways[file]
        if start in seen:
            found.append(sorted(file for file in seen if file in ways))
    return found


def test_no_file_leads_back_to_itself():
    assert not circles()


def test_rooms_do_not_know_each_other_in_a_circle():
    known = {room: set().union(*(imports(f) for f in FILES if room_of(f) == room)) for room in MAY_IMPORT}
    left = {room: others & known.keys() for room, others in known.items() if not room.startswith("__")}
    while free := [room for room, others in left.items() if not others & left.keys()]:
        for room in free:
            del left[room]
    assert not left


def test_no_folder_holds_more_than_a_dozen_files():
    folders = {path.parent for path in FILES.values()}
    counts = {
        str(folder.relative_to(PACKAGE)): len([p for p in folder.glob("*.py") if not p.name.startswith("__")])
        for folder in folders
    }
    assert not {folder: count for folder, count in counts.items() if count > MOST}


def test_the_front_of_the_command_line_imports_nothing_heavy():
    assert imports("cli/__init__.py") == set()
