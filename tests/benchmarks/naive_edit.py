"""The naive edit, as in the authors' code: load three models, flatten, take the k-th value of everything, subtract."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def main(base: Path, harm: Path, output: Path) -> None:
    load = lambda path: {k: v for f in sorted(path.glob("*.safetensors")) for k, v in load_file(f).items()}  # noqa: E731  # one line, for one use
    before, after, target = load(base), load(harm), load(base)
    delta = {name: after[name].float() - before[name].float() for name in before}
    flat = torch.cat([delta[name].reshape(-1) for name in sorted(delta)])
    keep = int(0.1 * flat.numel() + 0.5)
    cut = flat.abs().kthvalue(flat.numel() - keep + 1).values
    edited = {}
    for name, weight in target.items():
        step = torch.where(delta[name].abs() >= cut, delta[name], 0.0)
        edited[name] = (weight.float() - 2.0 * step).to(weight.dtype)
    output.mkdir()
    save_file(edited, output / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
