"""Files that others wrote: YAML within limits of size and depth, and whether they may bring code along (`--safe`)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sa_lightning.errors import SettingError

__all__ = ["check_yaml", "is_safe", "read_yaml", "safely"]

LARGEST = 8 << 20  # bytes of a YAML file
MOST = 200_000  # values in it, those behind aliases counted each time
DEEPEST = 60  # levels
_SAFE = "SA_SAFE"


def is_safe() -> bool:
    """Whether nothing that came in a file may run: `--safe`, or `SA_SAFE=1` in the environment."""
    return os.environ.get(_SAFE, "") not in ("", "0")


@contextmanager
def safely() -> Iterator[None]:
    """Let nothing that came in a file run within the block, nor in processes that it starts."""
    before = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SAFE)
        if before is not None:
            os.environ[_SAFE] = before


def read_yaml(path: Path, name: str) -> Any:
    """Return what a YAML file holds: plain values, no objects.

    Args:
        path: The file.
        name: What an error calls it.

    Raises:
        SettingError: If it is no YAML, or too large, too deep or too much behind its aliases.
    """
    import yaml

    try:
        text = _text(path)
        why = _too_much(text)
        if why is None:
            return yaml.safe_load(text)
    except SettingError:
        raise
    except (OSError, UnicodeDecodeError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise SettingError(
            f"{name} cannot be read: {' '.join(str(error).split())}\nA config is a YAML file.\nMend it."
        ) from error
    raise _refused(name, why)


def check_yaml(path: Path) -> None:
    """Refuse a YAML file that would take minutes or gigabytes to read; tags and syntax are left to its reader.

    Raises:
        SettingError: If it is too large, too deep or too much behind its aliases.
    """
    import yaml

    try:
        why = _too_much(_text(path))
    except SettingError:
        raise
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError):
        return
    if why is not None:
        raise _refused(str(path), why)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise _refused(str(path), f"it has more than {LARGEST >> 20} MiB")
    return content.decode("utf-8-sig")


def _refused(name: str, why: str) -> SettingError:
    return SettingError(
        f"{name} is not read: {why}.\nReading it would take minutes, or all memory.\n"
        "Write it without aliases (`*name`), flatter or shorter."
    )


def _too_much(text: str) -> str | None:
    """Count values as they would be with every alias written out, without building any."""
    import yaml

    sizes: dict[str, int] = {}  # of anchors whose value has ended
    open_: list[list[Any]] = [["", 0]]  # anchors of what is around, with the values in it so far
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes and any(anchor == event.anchor for anchor, _ in open_):
                return f"the value `&{event.anchor}` holds itself"
            open_[-1][1] += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            open_[-1][1] += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append([event.anchor or "", 1])
            if len(open_) > DEEPEST:
                return f"it is more than {DEEPEST} levels deep"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
            open_[-1][1] += size
            if anchor:
                sizes[anchor] = size
        if open_[-1][1] > MOST:
            return f"it has more than {MOST:,} values, those behind aliases counted each time"
    return None
