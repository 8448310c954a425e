"""Settings of parts and gates that are refused."""

import pytest
import torch
from support.fits import numbered
from support.models import llama
from support.parts import REFUSE, fitted

from sa_lightning import steer
from sa_lightning.errors import DataError, SettingError
from sa_lightning.steering import (
    GateSettings,
    PartSettings,
    fit_part,
)


def test_a_strength_for_parts_alone_is_refused(checkpoints, prompts, tmp_path):
    artifact = fitted(checkpoints, prompts, tmp_path, direction="none", parts={"refuse": REFUSE})
    with pytest.raises(SettingError, match="parts alone: refuse"), steer(llama(), artifact, strength=0.5):
        pass
    told = artifact.parts["refuse"]
    assert told.extraction["prompts"] == told.gate["prompts"] == "prompts.jsonl"
    assert told.extraction["prompts_sha256"] == told.gate["prompts_sha256"]


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"parts": {}}, "Only `parts` act then"),
        ({"parts": {"a": REFUSE}, "site": "mlp"}, r"`steering.site` is set"),
        ({"parts": {"my part": REFUSE}}, "called 'my part'"),
        ({"parts": {"a": REFUSE}, "control": "shuffled"}, "Take `random`"),
        (
            {"parts": {w: PartSettings(gate=GateSettings("transition", append=w)) for w in ("yes", "no")}},
            "the same `append`",
        ),
        ({"parts": {"a": PartSettings("refusal", layers=[9])}}, "has 3 layers"),
        ({"parts": {"a": PartSettings("refusal", of_layer=3)}}, "`steering.parts.a.of_layer` has [3]"),
    ],
)
def test_parts_that_cannot_be_fitted_are_refused(checkpoints, prompts, tmp_path, settings, fact):
    with pytest.raises(SettingError) as error:
        fitted(checkpoints, prompts, tmp_path, direction="none", **settings)
    assert fact in str(error.value)


def test_settings_of_parts_and_gates_that_cannot_be_meant_are_refused():
    for make, fact in (
        (lambda: PartSettings("null_space", intervention="add"), "takes steps of its own"),
        (lambda: PartSettings("false_refusal", orthogonal=1.5), "a share"),
        (lambda: PartSettings("false_refusal", strength=2.0), "fraction of the component"),
        (lambda: PartSettings(per_kind=1), "two prompts"),
        (lambda: PartSettings("null_space", free=1.0), "a share"),
        (lambda: PartSettings("false_refusal", gate=GateSettings("linear")), "weights the strength by -1"),
        (lambda: GateSettings(others=0.0), "Give `gate.kind`"),
        (lambda: numbered(intervention="ablate", strength=1.0, gate=GateSettings("linear")), "by -1"),
        (lambda: PartSettings(layers=[1], segment="last"), "behind which blocks"),
        (lambda: PartSettings(intervention="clamp"), "every state gets"),
        (lambda: PartSettings(intervention="match", strength=1.5), "To go all of it"),
        (lambda: GateSettings("linear", finds=["a"], against=["a"]), "each has to be in one"),
        (lambda: GateSettings("linear", finds=["a"], join="any"), "Give two kinds or more"),
        (lambda: GateSettings("linear", spares=["a"], join="all"), "Give two kinds or more"),
        (lambda: GateSettings("linear", ramp=1.0, dead_zone=1.0), "Leave one of the two out"),
    ):
        with pytest.raises(SettingError, match=fact):
            make()
    states = {kind: torch.randn(3, 6, 4) for kind in ("harmful", "harmless")}
    assert sorted(fit_part(PartSettings(segment="middle"), states, 6)) == [2, 3]
    with pytest.raises(DataError, match="borderline, contrast"):
        PartSettings("false_refusal").check_prompts({"harmful": 3, "harmless": 2, "borderline": 1})
    with pytest.raises(DataError, match="borderline, contrast"):
        fit_part(PartSettings("false_refusal"), {"harmful": torch.randn(3, 2, 4), "harmless": torch.randn(3, 2, 4)}, 2)
