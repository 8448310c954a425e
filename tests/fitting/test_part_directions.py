"""The directions of parts, and the prompts that they are fitted on."""

import csv
import gzip
import json

import pytest
import torch
from support.models import ask, llama
from support.parts import fitted

from sa_lightning import steer
from sa_lightning.errors import DataError
from sa_lightning.fitting.prompts import read_prompts
from sa_lightning.steering import (
    INTERVENTIONS,
    PartSettings,
    fit_part,
    read_demonstrations,
)


def test_directions_are_mean_differences_and_what_is_left_of_them(checkpoints, prompts, tmp_path):
    parts = {
        "refuse": PartSettings("refusal", per_kind=24),
        "false": PartSettings("false_refusal", per_kind=24, layers=[0, 2]),
        "half": PartSettings("false_refusal", per_kind=24, orthogonal=0.5, of_layer=1),
        "map": PartSettings("null_space", per_kind=24, free=0.5, strength=0.2),
    }
    artifact = fitted(checkpoints, prompts, tmp_path, direction="none", parts=parts)
    model, states = llama(), {}
    for line in prompts.read_text().splitlines():
        row = json.loads(line)
        with torch.no_grad():
            found = model(torch.tensor([ask(row["prompt"])]), output_hidden_states=True).hidden_states
        states.setdefault(row["kind"], []).append(torch.stack([found[layer + 1][0, -1] for layer in range(2)]).double())
    mean = {kind: torch.stack(rows).mean(0) for kind, rows in states.items()}
    r = torch.stack(states["harmful"] + states["wrapped"]).mean(0) - mean["harmless"]
    w = mean["contrast"] - mean["harmless"]
    for layer in (0, 1):
        known = torch.nn.functional.normalize(r[layer], dim=0)
        assert torch.allclose(artifact.parts["refuse"].directions["original"][layer].double(), known, atol=1e-5)
        left = w[layer] - (w[layer] @ known) * known
        if layer == 0:
            got = artifact.parts["false"].directions["original"][0].double()
            assert torch.allclose(got, left / left.norm(), atol=1e-4)
            assert abs(float(got @ known)) < 1e-5
        else:
            half = w[1] - 0.5 * (w[1] @ known) * known
            for other in artifact.parts["half"].directions["original"].values():
                assert torch.allclose(other.double(), half / half.norm(), atol=1e-4)
    assert sorted(artifact.parts["false"].directions["original"]) == [0, 2]
    assert artifact.parts["map"].directions["original"][1].shape == (32, 32)
    with steer(model, artifact):
        pass
    card = (tmp_path / "artifact" / "README.md").read_text()
    assert "Part `map`" in card
    assert "`add_mapped` with strength 0.2 (factor of the mapped state); a dose of" in card
    assert "on original weights, at every prompt" in card


def test_match_leads_to_where_the_mean_harmless_prompt_lies():
    generator = torch.Generator().manual_seed(0)
    states = {kind: torch.randn(9, 2, 8, generator=generator) for kind in ("harmful", "harmless", "borderline")}
    for name in ("refusal", "false_refusal"):
        unit = fit_part(PartSettings(name, intervention="ablate"), states, 2)
        found = fit_part(PartSettings(name, intervention="match"), states, 2)
        for layer in (0, 1):
            wanted = float(states["harmless"].mean(0)[layer] @ unit[layer])
            assert float(found[layer] @ unit[layer]) == pytest.approx(wanted, abs=1e-5)
            x = torch.randn(4, 3, 8, generator=generator)
            moved = INTERVENTIONS["match"](x, found[layer], 1.0)
            assert torch.allclose(moved @ unit[layer], torch.full((4, 3), wanted), atol=1e-5)
            rest = torch.eye(8) - unit[layer][:, None] * unit[layer]
            assert torch.allclose(moved @ rest, x @ rest, atol=1e-5)  # nothing else changes
            half = INTERVENTIONS["match"](x, found[layer], 0.5)
            assert torch.allclose(half, (x + moved) / 2, atol=1e-5)
            assert torch.allclose(INTERVENTIONS["match"](moved, found[layer], 1.0), moved, atol=1e-5)  # twice is once
            assert torch.equal(INTERVENTIONS["match"](x, found[layer], 0.0), x)


def test_a_file_with_kinds_gives_pairs_of_questions(prompts, tmp_path):
    pairs, skipped = read_demonstrations(prompts)
    assert (len(pairs), skipped, pairs[0].role) == (24, 0, "user")
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    assert pairs[1].safe == [row["prompt"] for row in rows if row["kind"] == "harmless"][1]
    assert pairs[1].unsafe == [row["prompt"] for row in rows if row["kind"] == "harmful"][1]
    (tmp_path / "one.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(DataError, match=r"prompts of the kinds harmful \(1\)"):
        read_demonstrations(tmp_path / "one.jsonl")


@pytest.mark.parametrize("suffix", ["json", "csv", "jsonl.gz"])
def test_prompts_come_in_the_formats_of_demonstrations(tmp_path, suffix):
    rows = [
        {"prompt": f"line\u2028{kind} {i}", "kind": kind, "group": 0}
        for kind in ("harmful", "harmless")
        for i in (0, 1)
    ]
    path = tmp_path / f"prompts.{suffix}"
    if suffix == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_bytes(gzip.compress("\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()))
    found = read_prompts(path)
    assert [prompt.text for prompt in found["harmful"]] == [row["prompt"] for row in rows[:2]]
    assert [prompt.held for prompt in found["harmful"]] == [False, False]  # the group 0 is one, too
