"""Checkpoints on disk: safetensors in, some rows of one tensor at a time, under their on-disk names."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sa_lightning.errors import CheckpointError
from sa_lightning.surgery.checkpoints.shard import Shard
from sa_lightning.surgery.checkpoints.slices import Slice, slices
from sa_lightning.surgery.checkpoints.weights import Digests, fingerprint, read_whole, slice_digest

__all__ = ["Checkpoint"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
HUB_FILES = [
    "model*.safetensors",
    ADAPTER_WEIGHTS,
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "tokenizer*",
]
INPUT_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|shared)\.weight$")
OUTPUT_EMBEDDING = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")


class Checkpoint:
    """A Hugging Face checkpoint in safetensors, opened by its headers only.

    `names` are the on-disk names in file order. A tensor stored a second time because the
    configuration ties it (`lm_head.weight` and `model.embed_tokens.weight`, with equal
    content) is left out of `names` and listed in `aliases`. `layout` has every stored name,
    by file. Use `Checkpoint.open`.
    """

    def __init__(self, source: str, path: Path, shards: dict[str, Shard], config: dict[str, Any]) -> None:
        self.source = source
        self.path = path
        self.config = config
        self.metadata: dict[str, str] = {k: v for s in shards.values() for k, v in s.metadata.items()}
        self.layout: dict[str, tuple[str, ...]] = {f: tuple(s.tensors) for f, s in shards.items()}
        self._shards: dict[str, Shard] = {n: s for s in shards.values() for n in s.tensors}
        self.hashes_reads: bool = False
        self._digests = Digests()
        self._hashed: list[tuple[Slice, bytes]] = []
        self._fingerprint: str | None = None
        self.aliases: dict[str, str] = self._find_aliases()
        self.names: tuple[str, ...] = tuple(n for n in self._shards if n not in self.aliases)

    @classmethod
    def open(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        adapter_base: str | Path | None = None,
    ) -> "Checkpoint":
        """Open a checkpoint by its headers; no tensor is read, tied embeddings aside.

        Args:
            source: A local directory with `model.safetensors` or shards and their index, a
                PEFT LoRA adapter, or a repository on the Hugging Face Hub.
            revision: Branch, tag or commit of a repository on the Hub.
            adapter_base: The checkpoint that an adapter changes, if not the one it names.

        Raises:
            CheckpointError: If there is nothing at `source`, if it holds no safetensors (no
                pickle is ever read), if the weights are quantised, or if a file is cut off,
                or missing, or contradicts the index.
        """
        path = _find_directory(str(source), revision)
        if (path / ADAPTER_CONFIG).is_file():
            from sa_lightning.surgery.checkpoints.adapter import AdaptedCheckpoint

            return AdaptedCheckpoint.from_directory(str(source), path, adapter_base)
        return cls._from_directory(str(source), path)

    @classmethod
    def _from_directory(cls, source: str, path: Path) -> "Checkpoint":
        config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
        if "quantization_config" in config:
            raise CheckpointError(
                f"{source} is quantised ({config['quantization_config'].get('quant_method')}).\n"
                "Arithmetic on packed weights means nothing. Give the checkpoint it was made from."
            )
        if (path / SINGLE).is_file():
            return cls(source, path, {SINGLE: Shard(path / SINGLE)}, config)
        if (path / INDEX).is_file():
            return cls(source, path, _open_shards(path), config)
        raise _no_weights(source, path)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return self._shards[name].tensors[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """Data type of a tensor, from the header."""
        return self._shards[name].tensors[name].dtype

    def rows(self, part: Slice) -> Tensor:
        """Read some rows of a tensor, in its own data type, into fresh memory."""
        rows = self._rows(part)
        if self.hashes_reads and part.name not in self._digests.tensors:
            self._hashed.append((part, slice_digest(rows)))
        return rows

    def hashed(self) -> list[tuple[Slice, bytes]]:
        """Slices that have been read and hashed since this was asked last, in this process, for `learn`."""
        found, self._hashed = self._hashed, []
        return found

    def learn(self, hashed: list[tuple[Slice, bytes]]) -> None:
        """Take up hashes of slices, perhaps from another process, for the fingerprint."""
        for part, digest in hashed:
            self._digests.add(part, self.shape(part.name), digest)

    def read(self, name: str) -> Tensor:
        """Read one tensor, in its own data type, into fresh memory."""
        return read_whole(self, name)

    def fingerprint(self) -> str:
        """An identity of the content, independent of the shard layout. Computed once.

        What was read while `hashes_reads` was set is not read again.
        """
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self, self._digests)
        return self._fingerprint

    def _rows(self, part: Slice) -> Tensor:
        return self._shards[part.name].rows(part)

    @property
    def directories(self) -> tuple[Path, ...]:
        """Directories that are read; files beside the weights are taken from the later ones."""
        return (self.path,)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that hold weights."""
        return tuple(self.path / file for file in self.layout)

    @property
    def ties_embeddings(self) -> bool:
        """Whether the configuration ties input and output embeddings (its default is yes)."""
        parts = (self.config, self.config.get("text_config") or {})
        flags = [part["tie_word_embeddings"] for part in parts if "tie_word_embeddings" in part]
        return any(flags) if flags else True

    def _find_aliases(self) -> dict[str, str]:
        if not self.ties_embeddings:
            return {}
        inputs = [name for name in self._shards if INPUT_EMBEDDING.search(name)]
        outputs = [name for name in self._shards if OUTPUT_EMBEDDING.search(name)]
        return {
            output: name
            for output in outputs
            for name in inputs
            if (self.shape(output), self.dtype(output)) == (self.shape(name), self.dtype(name))
            and self._equal(output, name)
        }

    def _equal(self, one: str, other: str) -> bool:
        parts = slices(one, self.shape(one))
        return all(torch.equal(self._rows(part), self._rows(part._replace(name=other))) for part in parts)


def _find_directory(source: str, revision: str | None) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or not HUB_ID.fullmatch(source) or source[0] == ".":
        what = "is a file, not a directory" if path.exists() else "does not exist"
        raise CheckpointError(
            f"{source} {what}.\n"
            "A checkpoint is a directory with `model.safetensors` (or shards and their index) and "
            "`config.json`, or a repository on the Hugging Face Hub such as `org/model`."
        )
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(source, revision=revision, allow_patterns=HUB_FILES)
    except Exception as error:  # many kinds: offline, gated, no such repository, no network
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"{source} is no directory here, and the Hugging Face Hub did not give it "
            f"({type(error).__name__}: {reason})\n"
            "Check the spelling; offline (`HF_HUB_OFFLINE=1`), only what is in the cache is found."
        ) from error
    return Path(found)


def _open_shards(path: Path) -> dict[str, Shard]:
    index = path / INDEX
    wanted = read_json(index).get("weight_map")
    if not isinstance(wanted, dict) or not wanted:
        raise CheckpointError(f"{index} has no `weight_map`, so it does not say where tensors are.")
    files = sorted(set(wanted.values()))
    missing = [file for file in files if not (path / file).is_file()]
    if missing:
        raise CheckpointError(
            f"{index} names {missing[0]}, which is not there ({len(missing)} of {len(files)} shards "
            "are missing).\nThe download is probably incomplete. Fetch the missing files."
        )
    shards = {file: Shard(path / file) for file in files}
    stored = {(name, file) for file, shard in shards.items() for name in shard.tensors}
    for name, file in sorted(stored.symmetric_difference(wanted.items())):
        where = "does not list it there" if (name, file) in stored else "says so, wrongly"
        raise CheckpointError(
            f"`{name}` in {file}: {index} {where}.\n"
            "Index and shards do not belong together. Fetch or save the checkpoint again."
        )
    return shards


def _no_weights(source: str, path: Path) -> CheckpointError:
    files = sorted(file.name for file in path.iterdir() if file.is_file())
    pickles = [name for name in files if name.endswith(PICKLES)]
    if pickles:
        return CheckpointError(
            f"{source} holds its weights as pickle only ({pickles[0]}), which we never read: a "
            "pickle can run any code.\nConvert it to safetensors where you trust it: "
            "`AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)`."
        )
    found = ", ".join(files[:5]) or "nothing"
    return CheckpointError(
        f"{source} has no weights: neither `{SINGLE}` nor `{INDEX}` is there, only {found}.\n"
        "Give the directory that `save_pretrained` wrote."
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object, so it is no configuration.")
    return content
