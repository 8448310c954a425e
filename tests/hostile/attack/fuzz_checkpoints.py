"""Mutated checkpoints and adapters: opened by `sa edit` and loaded as models, right, or refused in words."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from sa_lightning.errors import SaError
from sa_lightning.models import load_model
from sa_lightning.surgery import open_checkpoint

from . import mutate

IDS = torch.tensor([[1, 3, 6, 7, 9]])
SOURCES = ("base", "sharded", "lora", "lora", "tied")


def worker(root: Path, seed: int) -> Callable[[int], dict]:
    """Return what makes and tries the checkpoint of a number."""
    scratch = root / "mutants"
    scratch.mkdir(exist_ok=True)
    truths = {name: _parameters(load_model(str(root / name))) for name in {*SOURCES}}
    opened = {name: _read(root / name) for name in {*SOURCES}}

    def work(number: int) -> dict:
        draw = mutate.drawn(seed, number)
        source = draw.choice(SOURCES)
        place = scratch / f"checkpoint-{number}"
        shutil.copytree(root / source, place)
        try:
            what = draw.choice([*WAYS])
            WAYS[what](place, draw)
            neutral = what == "nothing"
            first = _opened(place, opened[source] if neutral else None)
            second = _loaded(place, truths[source] if neutral else None)
            worse = next((one for one in (first, second) if one["kind"] in ("wrong", "error")), None)
            both = {first["kind"], second["kind"]}
            return {
                "what": f"{source}, {what}",
                **(
                    worse
                    or {"kind": "right" if "right" in both else "refused", "both": [first["kind"], second["kind"]]}
                ),
            }
        finally:
            shutil.rmtree(place, ignore_errors=True)

    return work


def _opened(place: Path, truth) -> dict:
    try:
        found = _read(place)
    except SaError as error:
        return {"kind": "refused" if truth is None else "wrong", "said": f"opened: {error}"[:200]}
    except Exception as error:
        return _error("opened", error)
    if truth is not None and not _same(truth, found):
        return {"kind": "wrong", "said": "opened: other tensors than before"}
    return {"kind": "right"}


def _loaded(place: Path, truth) -> dict:
    try:
        model = load_model(str(place))
        with torch.no_grad():
            model(IDS, attention_mask=torch.ones_like(IDS))
    except SaError as error:
        return {"kind": "refused" if truth is None else "wrong", "said": f"loaded: {error}"[:200]}
    except Exception as error:
        return _error("loaded", error)
    found = _parameters(model)
    if truth is not None and not _same(truth, found):
        return {"kind": "wrong", "said": "loaded: other parameters than before"}
    if not (place / "adapter_config.json").is_file():
        held = {name: tensor for path in place.glob("*.safetensors") for name, tensor in load_file(path).items()}
        other = [
            name
            for name, tensor in found.items()
            if name in held and not torch.equal(held[name].float(), tensor.float()) and tensor.isfinite().all()
        ]
        missing = [name for name in found if name not in held and name != "lm_head.weight"]
        if other or missing:
            return {"kind": "wrong", "said": f"loaded: {(other + missing)[0]} is not what the files hold"}
    return {"kind": "right"}


def _error(where: str, error: Exception) -> dict:
    import traceback

    ours = [
        f"{Path(f.filename).name}:{f.lineno}"
        for f in traceback.extract_tb(error.__traceback__)
        if "sa_lightning" in f.filename
    ]
    return {"kind": "error", "said": f"{where}: {type(error).__name__}: {error}"[:300], "at": (ours or ["?"])[-1]}


def _read(place: Path) -> dict[str, torch.Tensor]:
    checkpoint = open_checkpoint(place)
    return {name: checkpoint.read(name) for name in checkpoint.names}


def _parameters(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.named_parameters()}


def _same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _weights(place: Path, draw) -> Path:
    return draw.choice(sorted(place.glob("*.safetensors")))


def _json_of(place: Path, draw) -> Path:
    names = ("config.json", "adapter_config.json", "model.safetensors.index.json")
    return draw.choice([place / name for name in names if (place / name).is_file()])


def _json(place: Path, draw, times: int = 1) -> None:
    path = _json_of(place, draw)
    path.write_text(json.dumps(mutate.changed(json.loads(path.read_text()), draw, times)))


def _header(place: Path, draw) -> None:
    path = _weights(place, draw)
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    head = json.dumps(mutate.changed(json.loads(raw[8 : 8 + length]), draw)).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + raw[8 + length :])


def _bytes(find: Callable, change: Callable) -> Callable:
    def make(place: Path, draw) -> None:
        path = find(place, draw)
        path.write_bytes(change(path.read_bytes(), draw))

    return make


def _tensors(place: Path, draw) -> None:
    path = _weights(place, draw)
    found = load_file(path)
    name = draw.choice([*found])
    tensor = found[name]
    change = draw.choice(["type", "shape", "drop", "add", "rename", "scalar", "empty", "exchange"])
    if change == "type":
        found[name] = tensor.to(
            draw.choice([torch.float16, torch.int64, torch.bool, torch.int8, torch.float64, torch.bfloat16])
        )
    elif change == "shape":
        found[name] = draw.choice(
            [tensor[..., :-1].contiguous(), tensor[None].clone(), tensor.T.contiguous()[:-1].contiguous()]
        )
    elif change == "drop":
        del found[name]
    elif change == "add":
        found[draw.choice(["x", name.replace("0", "9"), name + ".x"])] = tensor.clone()
    elif change == "rename":
        found[draw.choice(["x", name[::-1], name.replace("1", "7") + "_"])] = found.pop(name)
    elif change == "scalar":
        found[name] = torch.tensor(1.0)
    elif change == "empty":
        found = {}
    else:
        other = draw.choice([*found])
        found[name], found[other] = found[other], found[name]
    save_file({key: value.clone() for key, value in found.items()}, path, metadata={"format": "pt"})


def _files(place: Path, draw) -> None:
    path = draw.choice([*sorted(place.glob("*.safetensors")), _json_of(place, draw)])
    change = draw.choice(["drop", "empty", "exchange", "directory", "double"])
    if change == "drop":
        path.unlink()
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "exchange":
        shutil.copy(draw.choice(sorted(place.glob("*.safetensors"))), place / "x") and (place / "x").replace(path)
    elif change == "directory":
        path.unlink()
        path.mkdir()
    else:
        other = place / draw.choice(["model.safetensors", "adapter_config.json", "config.json"])
        if other != path:
            shutil.copy(path, other)


def _nothing(place: Path, draw) -> None:
    path = _json_of(place, draw)
    found = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: found[key] for key in draw.sample([*found], len(found))}, indent=draw.choice([None, 3]))
    )
    (place / "notes.md").write_text("other")


WAYS = {
    "JSON": _json,
    "much JSON": lambda place, draw: _json(place, draw, 3),
    "header": _header,
    "tensors": _tensors,
    "files": _files,
    "bits of JSON": _bytes(_json_of, mutate.flipped),
    "JSON cut": _bytes(_json_of, mutate.cut),
    "bits of the header": _bytes(_weights, lambda content, draw: mutate.flipped(content, draw, within=900)),
    "weights cut": _bytes(_weights, mutate.cut),
    "nothing": _nothing,
}
