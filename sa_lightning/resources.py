"""What comes with the package besides code: configs and tasks, in a checkout or in a wheel; versions."""

import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sa_lightning.errors import SettingError
from sa_lightning.foreign.files import read_yaml

PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """Return the directory `configs` or `tasks`: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def config_path(path: str) -> str:
    """Return where a config is: `configs/…` is a shipped one where the current directory has none of that name."""
    if Path(path).exists() or Path(path).is_absolute():
        return path
    candidate = shipped("configs") / path.removeprefix("configs/")
    return str(candidate) if candidate.is_file() else path


def read_config(path: str) -> Any:
    """Return what a config holds, there or shipped.

    Raises:
        SettingError: If there is none, or it is no YAML.
    """
    place = Path(config_path(path))
    if not place.is_file():
        raise SettingError(
            f"There is no config {path}, neither here nor among those of the package.\n"
            "A run without it would be another.\nCheck the path: shipped ones begin with `configs/`."
        )
    return read_yaml(place, f"The config {path}")


def installed(*packages: str) -> dict[str, str]:
    """Return the versions of packages, `unknown` for one that is not installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, and the commit where the package is a checkout."""
    found = installed("sa_lightning") | {"python": platform.python_version()}
    found |= installed("torch", "lightning", "transformers", "lm_eval", "peft", "safetensors")
    if (PACKAGE.parent / ".git").exists():
        command = ["git", "-C", str(PACKAGE.parent), "describe", "--always", "--dirty"]
        with suppress(OSError):  # there is no git
            described = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
            if described.returncode == 0:
                found["commit"] = described.stdout.strip()
    return found
