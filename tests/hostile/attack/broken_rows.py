"""Files of rows, artifacts, tasks and configs with one thing wrong each."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

BOM = b"\xef\xbb\xbf"


def lines(*rows) -> bytes:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def wrong_files(good: list[dict], column: str) -> dict[str, tuple[str, bytes]]:
    """Files that are no rows, whoever reads them: what is wrong, to the suffix and the bytes.

    Args:
        good: Two or more rows as they should be.
        column: A column that holds text.
    """
    whole = lines(*good)

    def at_first(value) -> bytes:
        return lines({**good[0], column: value}, *good[1:])

    return {
        "empty": (".jsonl", b""),
        "blank lines alone": (".jsonl", b"\n\n  \n"),
        "a number": (".jsonl", b"42\n"),
        "a text": (".jsonl", b'"how"\n'),
        "a list": (".jsonl", b"[1, 2]\n"),
        "null": (".jsonl", b"null\n"),
        "malformed": (".jsonl", whole + b'{"a": \n'),
        "nested deeply": (".jsonl", b"[" * 100_000 + b"\n"),
        "a number of 6000 digits": (".jsonl", lines(*good) + b'{"' + column.encode() + b'": ' + b"9" * 6000 + b"}\n"),
        "without a column": (".jsonl", lines({"x": 1}, {"x": 2})),
        "a column of null": (".jsonl", at_first(None)),
        "a column of numbers": (".jsonl", at_first(7)),
        "a column of lists": (".jsonl", at_first(["how"])),
        "a column of objects": (".jsonl", at_first({"how": 1})),
        "a lone surrogate": (".jsonl", at_first("how \ud800 do")),
        "latin-1": (".jsonl", json.dumps({**good[0], column: "ä ö"}, ensure_ascii=False).encode("latin-1") + b"\n"),
        "binary": (".jsonl", bytes(range(256)) * 20),
        "binary zeros": (".jsonl", b"\x00" * 4000),
        "UTF-16": (".jsonl", whole.decode().encode("utf-16")),
        "a gzip that is none": (".jsonl.gz", whole),
        "a gzip that is cut": (".jsonl.gz", gzip.compress(whole * 50)[:-40]),
        "a gzip that is damaged": (".jsonl.gz", gzip.compress(whole * 50)[:60] + b"\x00\x01" * 40),
        "JSON that is cut": (".json", json.dumps(good).encode()[:-5]),
        "JSON that is a number": (".json", b"42"),
        "JSON that is null": (".json", b"null"),
        "JSON nested deeply": (".json", b"[" * 100_000),
        "JSON of objects nested deeply": (".json", b'{"a":' * 100_000),
        "a CSV without the column": (".csv", b"x,y\n1,2\n"),
        "a CSV with a cell too long": (".csv", column.encode() + b"\n" + b"a" * 140_000 + b"\n"),
        "a CSV with an open quote": (".csv", column.encode() + b'\n"how do i\n'),
        "a CSV of binary": (".csv", bytes(range(256)) * 20),
        "an empty CSV": (".csv", b""),
        "a parquet that is none": (".parquet", whole),
        "a parquet that is cut": (".parquet", b"PAR1" + b"\x07" * 60),
        "an Excel file that is none": (".xlsx", whole),
        "an Excel file that is a zip": (".xlsx", b"PK\x05\x06" + b"\x00" * 18),
    }


def right_files(good: list[dict], column: str) -> dict[str, tuple[str, bytes]]:
    """Files that differ in ways that mean nothing."""
    whole = lines(*good)
    return {
        "a byte-order mark": (".jsonl", BOM + whole),
        "CRLF": (".jsonl", whole.replace(b"\n", b"\r\n")),
        "U+2028 in a text": (".jsonl", json.dumps({**good[0], column: "how\u2028do i"}, ensure_ascii=False).encode() + b"\n" + lines(*good[1:])),
        "no last line break": (".jsonl", whole[:-1]),
        "blank lines between": (".jsonl", whole.replace(b"\n", b"\n\n")),
        "gzip": (".jsonl.gz", gzip.compress(whole)),
        "JSON": (".json", json.dumps(good).encode()),
        "further columns": (".jsonl", lines(*({**row, "of nobody": {"a": [1]}} for row in good))),
    }  # fmt: skip


def config_change(change: Callable[[dict], object]) -> Callable[[Path], object]:
    """Change the settings of an artifact."""

    def make(path: Path) -> None:
        place = path / "sa_config.json"
        found = json.loads(place.read_text())
        place.write_text(json.dumps(change(found) or found))

    return make


def tensor_change(change: Callable[[dict], dict]) -> Callable[[Path], object]:
    """Change the tensors of an artifact."""
    name = "steering.safetensors"
    return lambda path: save_file(change(load_file(path / name)), path / name)


def raw(name: str, content: bytes) -> Callable[[Path], object]:
    """Write a file of an artifact."""
    return lambda path: (path / name).write_bytes(content)


def cut(name: str, size: int) -> Callable[[Path], object]:
    """Keep so many bytes."""
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:size])


def rule(**changes) -> Callable[[Path], object]:
    """Change settings of the one rule, which stand among the others."""
    return config_change(lambda found: found.update(changes))


def dropped(*names: str) -> Callable[[Path], object]:
    """Take keys away."""
    return config_change(lambda found: {key: value for key, value in found.items() if key not in names})


ARTIFACTS = {
    "settings gone": lambda path: (path / "sa_config.json").unlink(),
    "settings malformed": raw("sa_config.json", b"{"),
    "settings a list": raw("sa_config.json", b"[]"),
    "settings a number": raw("sa_config.json", b"42"),
    "settings empty": raw("sa_config.json", b""),
    "settings an empty object": raw("sa_config.json", b"{}"),
    "settings binary": raw("sa_config.json", b"\xff\xfe\x81"),
    "settings nested deeply": raw("sa_config.json", b"[" * 100_000),
    "settings of a later format": config_change(lambda found: found.update(format_version=99)),
    "format in words": config_change(lambda found: found.update(format_version="two")),
    "without a site": dropped("site"),
    "without a strength": dropped("strength"),
    "without a width": dropped("d_model"),
    "without digests": dropped("tensors", "digests"),
    "rules a number": config_change(lambda found: found.update(rules=7)),
    "layers in words": config_change(lambda found: found.update(num_layers="three")),
    "more layers": config_change(lambda found: found.update(num_layers=99)),
    "another width": config_change(lambda found: found.update(d_model=16)),
    "fingerprints gone": dropped("fingerprints"),
    "fingerprints of another": config_change(lambda found: found.update(fingerprints={"original": "xxh64:0"})),
    "strength in words": rule(strength="much"),
    "strength a list": rule(strength=[0.3]),
    "strength without end": rule(strength=float("inf")),
    "strength not a number": rule(strength=float("nan")),
    "an unknown intervention": rule(intervention="quantum"),
    "an unknown site": rule(site="quantum"),
    "a gate that is text": rule(gate="sometimes"),
    "a gate of an unknown kind": rule(gate={"settings": {"kind": "quantum"}}),
    "tensors gone": lambda path: (path / "steering.safetensors").unlink(),
    "tensors cut": cut("steering.safetensors", 300),
    "tensors of no bytes": raw("steering.safetensors", b""),
    "tensors garbage": raw("steering.safetensors", bytes(range(256)) * 9),
    "a pickle in their place": raw("steering.safetensors", b"\x80\x04\x95\x10\x00\x00\x00"),
    "directions a hundred times as long": tensor_change(lambda t: {k: 100 * v for k, v in t.items()}),
    "directions of zero": tensor_change(lambda t: {k: 0 * v for k, v in t.items()}),
    "directions negated": tensor_change(lambda t: {k: -v for k, v in t.items()}),
    "directions not a number": tensor_change(lambda t: {k: v * float("nan") for k, v in t.items()}),
    "directions of whole numbers": tensor_change(lambda t: {k: (10 * v).long() for k, v in t.items()}),
    "a direction missing": tensor_change(lambda t: dict([*t.items()][1:])),
    "a direction too many": tensor_change(lambda t: {**t, "rules.more.original.0": next(iter(t.values())).clone()}),
    "a direction of another width": tensor_change(lambda t: {k: v[..., :16].contiguous() for k, v in t.items()}),
    "a file in its place": lambda path: (shutil.rmtree(path), path.write_text("no artifact")),
    "an empty directory": lambda path: (shutil.rmtree(path), path.mkdir()),
    "nothing there": shutil.rmtree,
}

TASKS = {
    "malformed": b"task: [",
    "binary": b"\xff\xfe\x81",
    "empty": b"",
    "a list": b"- a\n- b\n",
    "a number": b"42",
    "a bomb of aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 108)) + b"task: hostile\n",
    "nested deeply": b"task: hostile\nx: " + b"[" * 20_000,
    "of a function that is not there": b"task: hostile\ncustom_dataset: !function nowhere.at_all\n",
    "of a module that is not there": b"task: hostile\nprocess_docs: !function quantum_module.f\n",
    "of a tag that is unknown": b"task: hostile\nx: !quantum y\n",
    "of a Python object": b"task: hostile\nx: !!python/object/apply:os.getcwd []\n",
    "without data": b"task: hostile\noutput_type: generate_until\n",
    "of data that are gone": b"task: hostile\ndataset_path: json\ndataset_kwargs: {data_files: {test: /nowhere.jsonl}}\ntest_split: test\noutput_type: generate_until\ndoc_to_text: prompt\ndoc_to_target: ''\n",
    "of data set that is unknown": b"task: hostile\ndataset_path: nobody/nothing\ntest_split: test\noutput_type: generate_until\ndoc_to_text: prompt\ndoc_to_target: ''\n",
    "of an unknown split": b"task: hostile\ndataset_path: json\ndataset_kwargs: {data_files: {test: ROWS}}\ntest_split: quantum\noutput_type: generate_until\ndoc_to_text: prompt\ndoc_to_target: ''\n",
    "of an unknown kind": b"task: hostile\ndataset_path: json\ndataset_kwargs: {data_files: {test: ROWS}}\ntest_split: test\noutput_type: quantum\ndoc_to_text: prompt\ndoc_to_target: ''\n",
    "of a template that is broken": b"task: hostile\ndataset_path: json\ndataset_kwargs: {data_files: {test: ROWS}}\ntest_split: test\noutput_type: generate_until\ndoc_to_text: '{{ prompt'\ndoc_to_target: ''\n",
    "of a template that raises": b"task: hostile\ndataset_path: json\ndataset_kwargs: {data_files: {test: ROWS}}\ntest_split: test\noutput_type: generate_until\ndoc_to_text: '{{ 1 / 0 }}'\ndoc_to_target: ''\n",
    "of an unknown metric": b"task: hostile\ndataset_path: json\ndataset_kwargs: {data_files: {test: ROWS}}\ntest_split: test\noutput_type: generate_until\ndoc_to_text: prompt\ndoc_to_target: ''\nmetric_list: [{metric: quantum}]\n",
    "of generation in words": b"task: hostile\ndataset_path: json\ndataset_kwargs: {data_files: {test: ROWS}}\ntest_split: test\noutput_type: generate_until\ndoc_to_text: prompt\ndoc_to_target: ''\ngeneration_kwargs: much\n",
    "of tokens below zero": b"task: hostile\ndataset_path: json\ndataset_kwargs: {data_files: {test: ROWS}}\ntest_split: test\noutput_type: generate_until\ndoc_to_text: prompt\ndoc_to_target: ''\ngeneration_kwargs: {max_gen_toks: -4}\nprocess_results: !function sa_lightning.evaluation.judges.registry.process_refusal\nmetric_list: [{metric: refused, aggregation: mean}]\n",
    "that includes itself": b"task: hostile\ninclude: hostile.yaml\n",
    "that includes a file that is gone": b"task: hostile\ninclude: nowhere.yaml\n",
}  # fmt: skip

CONFIGS = {
    "malformed": b"model: [",
    "binary": b"\xff\xfe\x81",
    "a list": b"- a\n- b\n",
    "a number": b"42\n",
    "a text": b"how do i\n",
    "an unknown key": b"quantum: 1\n",
    "nested deeply": b"output: " + b"[" * 20_000,
    "a bomb of aliases": TASKS["a bomb of aliases"],
    "of a Python object": b"output: !!python/object/apply:os.getcwd []\n",
    "of an unknown tag": b"output: !quantum x\n",
    "of bytes that are zero": b"\x00\x00\x00",
    "that is no file": None,
}


def make(place: Path, change: Callable[[Path], object], source: Path) -> Path:
    """Copy a directory, and do something to the copy."""
    shutil.copytree(source, place)
    change(place)
    return place
