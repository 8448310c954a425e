"""A GGUF file as a checkpoint: converted once into safetensors, by transformers' own reader, and kept in the cache."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sa_lightning.errors import ModelError
from sa_lightning.files import Json, cache_directory, sha256, whole_directory
from sa_lightning.models.as_asked import check_size, in_our_words

Say = Callable[[str], None]
MAGIC = b"GGUF"
LARGE = 1_000_000_000  # parameters above which the converted weights are bfloat16, not float32
RECORD = "gguf.json"


def is_gguf(source: str) -> bool:
    """Say whether a source names a GGUF file, there or not."""
    return source.endswith(".gguf") and not os.path.isdir(source)


def converted(file: str | Path, cache: Path | None = None, say: Say = lambda text: None) -> Path:
    """Return the directory of a safetensors checkpoint with the dequantised weights of a GGUF file.

    It is made by the first call and found by its content later: `CACHE/gguf/NAME-HASH/`, whole or not there, with the
    file's SHA-256, architecture and quantisation in `gguf.json`. Weights are float32, in which every quantised value
    is exact; above a billion parameters bfloat16, which rounds. Concurrent calls wait for the first.

    Args:
        file: The GGUF file.
        cache: In place of `cache_directory()`.
        say: Gets a line before the conversion begins.

    Raises:
        ModelError: If there is no such file, it is no GGUF, or transformers cannot read its architecture.
    """
    path = Path(file)
    check(path)
    digest = sha256(path)
    directory = (cache or cache_directory()) / "gguf" / f"{path.stem}-{digest[:16]}"
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.parent / f".{directory.name}.lock"):
        if not directory.is_dir():  # another process may have made it meanwhile
            told = described(path)
            say(
                f"Converting {path.name} ({path.stat().st_size / 1e6:.0f} MB, {told['architecture']}, "
                f"{told['quantisation']}) once into {directory}"
            )
            with whole_directory(directory) as partial:
                _convert(path, partial, told | {"file": path.name, "sha256": digest})
    return directory


def plain(source: str) -> str:
    """Return a source as transformers takes it: of a GGUF file its conversion, of all else itself."""
    return str(converted(source)) if is_gguf(source) else source


def check(path: Path) -> None:
    """Refuse what is no GGUF file, by its first bytes.

    Raises:
        ModelError: With what is there.
    """
    if not os.path.isfile(path):
        raise ModelError(f"There is no file {path}.\nA GGUF file was asked for.\nCheck the path.")
    with path.open("rb") as stream:
        start = stream.read(4)
    if start != MAGIC:
        raise ModelError(
            f"{path} begins with {start!r}, a GGUF file with {MAGIC!r}.\nPerhaps a pointer, or a download cut short.\n"
            "Fetch it again."
        )


def described(path: Path) -> Json:
    """Read the architecture, the quantisation (most frequent type of the matrices first) and the size of a file.

    Raises:
        ModelError: If the file is damaged, or its architecture is one that transformers cannot read.
    """
    from gguf import GGUFReader
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    class Reader(GGUFReader):
        """One that ends where the file does, in place of counting on to a length that the file only claims."""

        def _get(self, offset: int, dtype: Any, count: int = 1, *arguments: Any, **options: Any) -> Any:
            found = super()._get(offset, dtype, count, *arguments, **options)
            if len(found) < count:
                raise ValueError(f"it ends before the {count} values at {offset}")
            return found

    with in_our_words(f"{path} cannot be read as GGUF: its header or its tensors are damaged", "Fetch it again."):
        reader = Reader(path)
        architecture = str(reader.fields["general.architecture"].contents())
        types = Counter(tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1)
        parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
        tensors = len(reader.tensors)
    if architecture not in GGUF_CONFIG_MAPPING:
        known = ", ".join(sorted(GGUF_CONFIG_MAPPING))
        raise ModelError(
            f"{path} is of the architecture `{architecture}`, which transformers {transformers.__version__} cannot "
            f"read from GGUF.\nIt reads {known}.\nTake the model's own checkpoint in place of the GGUF file."
        )
    return {
        "architecture": architecture,
        "quantisation": " + ".join(name for name, _ in types.most_common()),
        "tensors": tensors,
        "parameters": parameters,
    }


def _convert(path: Path, directory: Path, told: Json) -> None:
    dtype = torch.bfloat16 if told["parameters"] > LARGE else torch.float32
    with in_our_words(
        f"{path} ({told['architecture']}) cannot be converted by transformers",
        "Take the model's own checkpoint, or another transformers version.",
    ):
        config = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
        check_size(config, str(path), told["tensors"], told["parameters"])
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=dtype, output_loading_info=True
        )
        model, report = loaded
        tokenizer: Any = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{path} lacks {len(missing)} tensors of a {type(model).__name__}: {', '.join(missing[:3])} …\n"
            "They would be random.\nFetch the file again, or take the model's own checkpoint."
        )
    model.hf_quantizer = None  # the weights are plain now, and are saved as such
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.name_or_path = path.name
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    told["dtype"] = str(dtype).removeprefix("torch.")
    (directory / RECORD).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
