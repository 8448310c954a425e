"""Settings that let code of others run, which `--safe` refuses."""

from collections.abc import Iterator, Sequence
from typing import Any

from sa_lightning.cli.options.kept import Options
from sa_lightning.errors import SettingError
from sa_lightning.foreign.files import is_safe

CODE = ("trust_remote_code", "confirm_run_unsafe_code")
SAFE = """
with any verb:
  --safe                Run nothing that comes with a config or task file of others; see SECURITY.md.
"""


def check_code(name: str, value: Any, options: Options) -> None:
    """With `--safe`, refuse settings that let code of a model run, and files of settings that settings name.

    Classes are refused where a parser would import them (`limit_imports`).
    """
    if not is_safe():
        return
    if name in (*options.groups, "config") and isinstance(value, str):
        raise SettingError(
            f"`{name}` names a file of settings, {value}, and `--safe` looks into configs alone.\n"
            "What it names would be used unseen.\nGive it as a further `--config`, under the key of the group."
        )
    for key, setting in _within(name, value):
        if key.rpartition(".")[2] in CODE and str(setting).lower() not in ("false", "no", "off", "0", "none"):
            raise SettingError(
                f"`{key}` is {setting}, and `--safe` runs nothing that comes with a file.\n"
                "It runs Python code of the model's directory.\nRead that code, and leave `--safe` out if you trust it."
            )


def _within(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A setting, and all that are within it."""
    yield name, value
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _within(str(key), item)


def check_lm_eval(arguments: Sequence[str]) -> None:
    """With `--safe`, refuse options of lm-eval's own that run code."""
    unsafe = [one for one in arguments if any(word in one for word in CODE) or one.startswith(("--config", "-C"))]
    if is_safe() and unsafe:
        raise SettingError(
            f"`{unsafe[0]}` is given, and `--safe` runs nothing that comes with a file.\n"
            "It runs code of others, or names a config that is not looked into.\nLeave one of the two out."
        )
