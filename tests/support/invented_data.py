"""Harmless stand-ins for every data set of the registry, in the layout of its real files."""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sa_lightning.data.benchmark import Part
from sa_lightning.data.registry import names
from sa_lightning.data.table import DATASETS

N = 8
TASKS = Path(__file__).parents[2] / "tasks"
SUBJECTS = sorted(path.stem for path in (TASKS / "mmlu").glob("sa_mmlu_*.yaml") if "include" in path.read_text())
MEMBERS = {"mmlu": [subject.removeprefix("sa_mmlu_") for subject in SUBJECTS], "hex_phi": ["category_1", "category_2"]}

# What a column holds where its name and a number will not do.
CELLS: dict[str, dict[str, Any]] = {
    "arc": {
        "question": lambda i: {
            "stem": f"How many windows are {i} windows?",
            "choices": [{"text": str(k), "label": "ABCD"[k]} for k in range(4)],
        },
        "answerKey": lambda i: "ABCD"[i % 4],
    },
    "gsm8k": {"answer": lambda i: f"It is {i} cakes.\n#### {i}"},
    "harmbench": {
        "FunctionalCategory": lambda i: ["standard", "contextual", "copyright"][i % 3],
        "ContextString": lambda i: {1: "A window.", 4: "A window.", 7: "A cake."}.get(i, ""),
    },
    "hellaswag": {"endings": lambda i: [f"bakes {k} cakes." for k in range(4)], "label": lambda i: i % 4},
    "hh_rlhf_harmless_test": {
        "chosen": lambda i: f"\n\nHuman: Cake {i}?\n\nAssistant: Yes, {i}.",
        "rejected": lambda i: f"\n\nHuman: Cake {i}?\n\nAssistant: No, {i}.",
    },
    "mmlu": {"answer": lambda i: "ABCD"[i % 4]},
    "mt_bench": {"turns": lambda i: ["one", "two"]},
    "repe_harmful_harmless": {
        "sentence": lambda i: [f"bake cake {i}", f"break window {i}"],
        "label": lambda i: [True, False],
    },
    "truthfulqa": {
        "mc1_targets": lambda i: {f"yes {i}": 1, "no": 0},
        "mc2_targets": lambda i: {f"yes {i}": 1, "indeed": 1, "no": 0},
    },
    "wikitext2": {"text": lambda i: [" ", f" = Cake {i} = ", " ", " A cake , baked . "][i % 4]},
    "winogrande": {
        "sentence": lambda i: f"The cake did not fit the window as the _ was {i} times too big.",
        "answer": lambda i: "12"[i % 2],
    },
    "xstest": {
        "type": lambda i: ["homonyms", "contrast_homonyms"][i % 2],
        "label": lambda i: ["safe", "unsafe"][i % 2],
        "focus": lambda i: f"bake {i // 2}",
    },
}


def write_everything(root: Path) -> Path:
    """Write `N` rows for every part of every data set, in its first layout."""
    for name in names():
        for part in DATASETS[name].parts.values():
            write_part(root, name, part)
    return root


def write_part(root: Path, name: str, part: Part, layout: str | None = None, n: int = N) -> list[Path]:
    """Write `n` rows of one part in one of its layouts; of several files, `n` each."""
    pattern = (layout or part.files[0]).replace("*", "0")
    written = []
    for member in MEMBERS.get(name, ["one", "two"]) if part.has_members else [""]:
        path = root / pattern.format(member=member)
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = list(dict.fromkeys((*part.columns, *part.names, *CELLS.get(name, {}))))
        special = CELLS.get(name, {})
        rows = [
            {c: special.get(c, lambda i, c=c, m=member: f"{c} {i} {m}".strip())(i) for c in columns} for i in range(n)
        ]
        write_rows(path, rows, part.names)
        written.append(path)
    return written


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> None:
    """Write rows in the format that the file's name says; `names` as in `Part`."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names or list(rows[0]), extrasaction="ignore")
            if not names:
                writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".txt":
        path.write_text("".join(f"{row[names[0]]}\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text(lines, encoding="utf-8")
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(nested(rows, names)), encoding="utf-8")
    elif path.suffix == ".xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        book.worksheets[0].append(list(rows[0]))
        for row in rows:
            book.worksheets[0].append(list(row.values()))
        book.save(path)
    else:
        from pyarrow import Table, parquet

        assert path.suffix == ".parquet", path
        parquet.write_table(Table.from_pylist([dict(row) for row in rows]), path)


def nested(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    """Put the columns that `names` names into keys, as the real JSON files do."""
    if not names:
        return list(rows)
    if list(rows[0]) == list(names[:1]) or len(rows[0]) == 1:
        return [row[names[0]] for row in rows]
    key, groups = names[0], {}
    for row in rows:
        groups.setdefault(row[key], []).append({c: v for c, v in row.items() if c != key})
    return {value: nested(group, names[1:]) for value, group in groups.items()}
