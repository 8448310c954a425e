"""Mutated artifacts: each loads with sane values, or is refused by an ArtifactError."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from support.models import artifact_for, linear_gate, llama, rule_for

from sa_lightning import SteeringArtifact, steer
from sa_lightning.errors import SaError
from sa_lightning.steering.artifact.format import digests

from . import mutate

IDS = torch.tensor([[1, 3, 6, 7, 9]])
TENSORS, CONFIG = "steering.safetensors", "sa_config.json"
OLDER = Path(__file__).parents[2] / "cases" / "artifacts"


def write_sources(root: Path) -> list[Path]:
    """Write what is mutated: artifacts as we write them, and those of older formats that are kept."""
    place = root / "whole artifacts"
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        gate = linear_gate({1: torch.randn(32)}, positive=["harmful", "wrapped"], negative_factor=0.0)
        more = {"more": rule_for(llama(), intervention="ablate", strength=0.5, gate=gate)}
        artifact_for(llama(), strength=0.3).save_pretrained(place / "bare")
        artifact_for(llama(), strength={0: 0.1, 1: 0.2, 2: 0.3}, gate=gate).save_pretrained(place / "gated")
        artifact_for(
            llama(), gate=gate, rules=more, template_arguments={"a": False}, template_tail="x"
        ).save_pretrained(place / "ruled")
        (place / "done").touch()
    ours = [place / name for name in ("bare", "gated", "ruled")]
    return [*ours, *ours, *sorted(path.parent for path in OLDER.glob("*/" + CONFIG))]


def worker(root: Path, seed: int) -> Callable[[int], dict]:
    """Return what makes and tries the artifact of a number."""
    sources = write_sources(root)
    model = llama()
    truths = {source: _logits(model, SteeringArtifact.from_pretrained(source)) for source in {*sources}}
    scratch = root / "mutants"
    scratch.mkdir(exist_ok=True)

    def work(number: int) -> dict:
        draw = mutate.drawn(seed, number)
        source = draw.choice(sources)
        place = scratch / f"artifact-{number}"
        shutil.copytree(source, place)
        try:
            what = draw.choice([*WAYS])
            WAYS[what](place, draw)
            return {"what": what, **tried(model, place, truths[source] if what == "nothing" else None)}
        finally:
            shutil.rmtree(place, ignore_errors=True)

    return work


def tried(model, place: Path, truth: torch.Tensor | None) -> dict:
    """Load an artifact and steer by it; with a truth, it has to give just that."""
    try:
        artifact = SteeringArtifact.from_pretrained(place)
        insane = _insane(artifact)
        if insane:
            return {"kind": "wrong", "said": insane}
        artifact.digest()
        artifact.randomised(1)
        logits = _logits(model, artifact)
    except SaError as error:
        wrong = truth is not None
        return {
            "kind": "wrong" if wrong else "refused",
            "said": str(error)[:200],
            "lines": len(str(error).splitlines()),
        }
    if truth is not None and logits is not None and not torch.equal(truth, logits):
        return {"kind": "wrong", "said": "other logits than before"}
    if logits is not None and not logits.isfinite().all():
        return {"kind": "wrong", "said": "logits that are not finite"}
    return {"kind": "right"}


def _insane(artifact: SteeringArtifact) -> str:
    for name, rule in artifact.rules.items():
        strengths = rule.strength.values() if isinstance(rule.strength, dict) else [rule.strength]
        if not all(torch.tensor(float(value)).isfinite() for value in strengths):
            return f"strength of {name}: {rule.strength}"
        for weights, layers in rule.directions.items():
            rule.gate_of(weights)
            for layer, direction in layers.items():
                if not 0 <= layer < artifact.num_layers or direction.dtype != torch.float32:
                    return f"direction of {name} at {layer}: {direction.dtype}"
                if not direction.isfinite().all():
                    return f"direction of {name} at {layer}: not finite"
                if direction.ndim == 1 and abs(float(direction.norm()) - 1) > 1e-2:
                    return f"direction of {name} at {layer}: of length {float(direction.norm()):g}"
                if direction.shape[-1] != artifact.d_model:
                    return f"direction of {name} at {layer}: of shape {tuple(direction.shape)}"
    return ""


def _logits(model, artifact: SteeringArtifact) -> torch.Tensor | None:
    """The logits of a steered forward; None where the artifact is for other weights."""
    if (artifact.num_layers, artifact.d_model) != (3, 32):
        return None
    with torch.no_grad(), steer(model, artifact, allow_other_weights=True):
        return model(IDS, attention_mask=torch.ones_like(IDS)).logits


def _json(place: Path, draw, times: int) -> None:
    found = mutate.changed(json.loads((place / CONFIG).read_text()), draw, times)
    (place / CONFIG).write_text(json.dumps(found))


def _bytes(name: str, change) -> Callable:
    def make(place: Path, draw) -> None:
        (place / name).write_bytes(change((place / name).read_bytes(), draw))

    return make


def _tensors(place: Path, draw, again: bool) -> None:
    """Change tensors, and write their digests anew, as who wishes us ill would."""
    found = load_file(place / TENSORS)
    name = draw.choice([*found])
    tensor = found[name]
    change = draw.choice(
        ["scale", "nan", "inf", "type", "shape", "drop", "add", "rename", "zero", "bits", "negate", "empty"]
    )
    if change == "scale":
        found[name] = tensor * draw.choice([100, 0.01, 1.1, 1e30])
    elif change in ("nan", "inf"):
        found[name] = (
            tensor.clone().index_fill_(-1, torch.tensor([0]), float(change)) if tensor.ndim else tensor * float(change)
        )
    elif change == "type":
        found[name] = tensor.to(
            draw.choice([torch.float16, torch.float64, torch.int64, torch.bool, torch.bfloat16, torch.uint8])
        )
    elif change == "shape":
        found[name] = draw.choice(
            [tensor[..., :-1].contiguous(), tensor[None], tensor.flatten()[:1], tensor.flatten()[0].clone()]
        )
    elif change == "drop":
        del found[name]
    elif change == "add":
        found[draw.choice(["x", name + ".x", name.replace("0", "9"), "rules.new." + name])] = tensor.clone()
    elif change == "rename":
        found[draw.choice(["x", name[::-1], name.replace("1", "7")])] = found.pop(name)
    elif change == "zero":
        found[name] = 0 * tensor
    elif change == "negate":
        found[name] = -tensor
    elif change == "empty":
        found = {}
    else:
        found[name] = tensor.clone()
        view = found[name].view(torch.int32).view(-1)
        view[draw.randrange(view.numel())] ^= 1 << draw.randrange(31)
    save_file(found, place / TENSORS)
    if again:
        config = json.loads((place / CONFIG).read_text())
        if "tensors" in config:
            config["tensors"] = digests(found)
        (place / CONFIG).write_text(json.dumps(config))


def _nothing(place: Path, draw) -> None:
    """Change what means nothing: the order of keys, blanks, the card, a further file."""
    found = json.loads((place / CONFIG).read_text())
    keys = draw.sample([*found], len(found))
    text = json.dumps({key: found[key] for key in keys}, indent=draw.choice([None, 0, 7]))
    (place / CONFIG).write_text(text + draw.choice(["", "\n", " \n\n"]))
    (place / draw.choice(["README.md", "notes.txt"])).write_text("other")


WAYS = {
    "values": lambda place, draw: _json(place, draw, 1),
    "many values": lambda place, draw: _json(place, draw, 4),
    "bits of settings": _bytes(CONFIG, mutate.flipped),
    "bits of tensors": _bytes(TENSORS, mutate.flipped),
    "bits of the header": _bytes(TENSORS, lambda content, draw: mutate.flipped(content, draw, within=400)),
    "settings cut": _bytes(CONFIG, mutate.cut),
    "tensors cut": _bytes(TENSORS, mutate.cut),
    "tensors": lambda place, draw: _tensors(place, draw, again=False),
    "tensors with digests": lambda place, draw: _tensors(place, draw, again=True),
    "nothing": _nothing,
}
