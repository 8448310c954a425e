"""Tasks that others wrote: which parts of them are code, and what of these runs."""

import functools
import importlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sa_lightning.errors import DataError, SettingError
from sa_lightning.foreign.files import check_yaml, is_safe
from sa_lightning.foreign.patterns import why_refused
from sa_lightning.resources import shipped

__all__ = ["check_directories", "hold_back"]

#: With `--safe`: modules whose functions a task may name, and readers of data that execute nothing.
MODULES = ("sa_lightning.evaluation.tasks.", "sa_lightning.evaluation.judges.registry", "lm_eval.tasks.")
READERS = ("json", "csv", "parquet", "text", "arrow")
PATTERNS = ("regex_pattern", "regexes_to_ignore")


@functools.cache
def hold_back() -> None:
    """Let lm-eval render templates of tasks in a sandbox, and with `--safe` import no function but known ones.

    Its own environment gives a template all of Python: `{{ cycler.__init__.__globals__.os.system(…) }}`.
    """
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils
    from lm_eval.tasks import _yaml_loader

    theirs = utils.env
    ours = ImmutableSandboxedEnvironment(undefined=theirs.undefined, keep_trailing_newline=True)
    ours.filters["regex_replace"] = _replaced
    utils.env = ours
    resolve = _yaml_loader._import_func_in_yml

    def imported(name: str, base_dir: Path) -> Any:
        if not is_safe() or _is_known(Path(base_dir)):
            return resolve(name, base_dir)
        return _function(name, base_dir)

    _yaml_loader._import_func_in_yml = imported


def check_directories(directories: Sequence[str]) -> None:
    """Look through the YAML files of directories that came from elsewhere, before any is loaded.

    Raises:
        SettingError: If one would take minutes to read; with `--safe`, if it asks for code.
        DataError: If a regular expression in it could run for hours.
    """
    places = [Path(directory) for directory in directories]
    for place in places:
        if not _is_known(place):
            for path in sorted(place.rglob("*")):
                if ("yaml" in path.name or "yml" in path.name) and path.is_file():
                    check_yaml(path)
                    _check_settings(path, places)


def _is_known(place: Path) -> bool:
    """Whether a directory came with this package or with lm-eval."""
    from lm_eval import tasks

    known = (shipped("tasks").resolve(), Path(tasks.__file__).resolve().parent)
    return any(place.resolve().is_relative_to(directory) for directory in known)


def _function(name: str, base_dir: Path) -> Any:
    """A function of a module that tasks may name with `--safe`; never one beside the task's own file."""
    module, _, attribute = name.rpartition(".")
    if module.startswith(MODULES):
        found = getattr(importlib.import_module(module), attribute, None)
        kind = found if inspect.isfunction(found) else type(found)  # `process_refusal` is an object that is called
        if callable(found) and not inspect.isclass(found) and kind.__module__ == module:
            return found
    raise _refused(f"A task in {base_dir} names the function `{name}`")


def _check_settings(path: Path, places: Sequence[Path]) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        content = load_yaml(path, resolve_func=False, recursive=False)
        whole = load_yaml(path, resolve_func=False) if is_safe() and "include" in content else content
    except Exception:  # whatever is wrong with it, lm-eval says when the task is asked for
        if not is_safe():
            return
        raise _refused(f"{path} cannot be read, or includes what cannot") from None
    counts = "process_results" in whole  # by a function, which is checked where it is imported
    for key, value in _pairs(content):
        if key in PATTERNS:
            for pattern in value if isinstance(value, list) else [value]:
                why = why_refused(pattern)
                if why is not None:
                    raise DataError(
                        f"The regular expression `{pattern}` in {path} is not used: {why}.\n"
                        "It would be applied to every reply.\nWrite it without."
                    )
        elif is_safe() and (key != "metric" or not counts):
            _check_safe(key, value, path, places)


def _check_safe(key: str, value: Any, path: Path, places: Sequence[Path]) -> None:
    if key == "dataset_path" and value not in READERS:
        raise _refused(f"{path} takes its data from `{value}`")
    if key in ("hf_evaluate", "use_prompt", "trust_remote_code", "unsafe_code") and value:
        raise _refused(f"{path} sets `{key}`")
    if key == "metric" and isinstance(value, str):
        from lm_eval.api.registry import metric_registry

        if value not in metric_registry:
            raise _refused(f"{path} names the metric `{value}`, which lm-eval would look for on the Hub")
    if key == "include":
        for name in value if isinstance(value, list) else [value]:
            there = (path.parent / str(name)).resolve()
            inside = any(there.is_relative_to(place.resolve()) for place in places) or _is_known(there)
            if not inside or not ("yaml" in there.name or "yml" in there.name):
                raise _refused(f"{path} includes `{name}`, which is not among the files that were looked through")


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys with their values, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key), item
            yield from _pairs(item)
    elif isinstance(value, list):
        for item in value:
            yield from _pairs(item)


def _replaced(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    """lm-eval's filter of templates, for patterns that end."""
    import re

    why = why_refused(pattern)
    if why is not None:
        raise DataError(f"The regular expression `{pattern}` of a task's template is not used: {why}.")
    return re.sub(pattern, replacement, text, count=count)


def _refused(fact: str) -> SettingError:
    return SettingError(
        f"{fact}: `--safe` runs nothing that comes with a file.\n"
        f"Allowed are functions of {', '.join(name.rstrip('.') for name in MODULES)} and data of the kinds "
        f"{', '.join(READERS)}.\nRead what the task names, and leave `--safe` out if you trust it."
    )
