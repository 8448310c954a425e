"""What comes with the package besides code: configs and tasks, in a checkout or in a wheel; versions."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """Return the directory `configs` or `tasks`: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


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
        described = subprocess.run(command, capture_output=True, text=True, check=False)
        if described.returncode == 0:
            found["commit"] = described.stdout.strip()
    return found
