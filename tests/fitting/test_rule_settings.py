"""Settings of rules and gates that are refused."""

import pytest
import torch
from support.fits import fitted, numbered
from support.models import llama
from support.rules import REFUSE

from sa_lightning import steer
from sa_lightning.errors import DataError, SettingError
from sa_lightning.steering import GateSettings, RuleSettings, fit_rule


def test_a_strength_for_several_rules_is_refused_and_that_of_one_taken(checkpoints, prompts, tmp_path):
    artifact = fitted(checkpoints / "base", prompts, tmp_path, rules={"refuse": REFUSE, "other": REFUSE})
    with pytest.raises(SettingError, match="several rules: refuse, other"), steer(llama(), artifact, strength=0.5):
        pass
    told = artifact.rules.pop("refuse")
    assert told.extraction["prompts"] == told.gate.provenance["prompts"] == "prompts.jsonl"
    assert told.extraction["prompts_sha256"] == told.gate.provenance["prompts_sha256"]
    assert artifact.with_strength(0.5).rules["other"].strength == 0.5
    with pytest.raises(SettingError, match=r"takes a fraction of the norm .* in \(-1, 1\)"):
        artifact.with_strength(2.0)


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"rules": {"a": REFUSE}, "site": "mlp"}, r"`steering.site` is set"),
        ({"rules": {"a": REFUSE}, "gate": GateSettings("linear")}, r"`steering.gate` is set"),
        ({"rules": {"a": REFUSE}, "choose_layers": 1}, r"`steering.choose_layers` is set"),
        ({"rules": {"my rule": REFUSE}}, "called 'my rule'"),
        ({"rules": {"pairs": REFUSE}}, "`pairs` is the rule of demonstrations"),
        ({"rules": {"a": REFUSE}, "control": "shuffled"}, "Take `random`"),
        (
            {"rules": {w: RuleSettings(gate=GateSettings("transition", append=w)) for w in ("yes", "no")}},
            "the same `append`",
        ),
        ({"rules": {"a": RuleSettings("refusal", layers=[9])}}, "has 3 layers"),
        ({"rules": {"a": RuleSettings("refusal", of_layer=3)}}, "`steering.rules.a.of_layer` has [3]"),
    ],
)
def test_rules_that_cannot_be_fitted_are_refused(checkpoints, prompts, tmp_path, settings, fact):
    with pytest.raises(SettingError) as error:
        fitted(checkpoints / "base", prompts, tmp_path, **settings)
    assert fact in str(error.value)


def test_settings_of_rules_and_gates_that_cannot_be_meant_are_refused():
    for make, fact in (
        (lambda: RuleSettings("null_space", intervention="add"), "takes steps of its own"),
        (lambda: RuleSettings("false_refusal", orthogonal=1.5), "a share"),
        (lambda: RuleSettings("false_refusal", strength=2.0), "fraction of the component"),
        (lambda: RuleSettings(per_kind=1), "two prompts"),
        (lambda: RuleSettings("null_space", free=1.0), "a share"),
        (lambda: RuleSettings("false_refusal", gate=GateSettings("linear")), "weights the strength by -1"),
        (lambda: GateSettings(negative_factor=0.0), "Give `gate.kind`"),
        (lambda: numbered(intervention="ablate", strength=1.0, gate=GateSettings("linear")), "by -1"),
        (lambda: RuleSettings(layers=[1], segment="last"), "behind which blocks"),
        (lambda: RuleSettings(intervention="clamp"), "every state gets"),
        (lambda: RuleSettings(intervention="match", strength=1.5), "To go all of it"),
        (lambda: GateSettings("linear", positive=["a"], negative=["a"]), "each has to be in one"),
        (lambda: GateSettings("linear", positive=["a"], join="any"), "Give two kinds or more"),
        (lambda: GateSettings("linear", exempt=["a"], join="all"), "Give two kinds or more"),
        (lambda: GateSettings("linear", ramp=1.0, dead_zone=1.0), "Leave one of the two out"),
    ):
        with pytest.raises(SettingError, match=fact):
            make()
    states = {kind: torch.randn(3, 6, 4) for kind in ("harmful", "harmless")}
    assert sorted(fit_rule(RuleSettings(segment="middle"), states, 6)) == [2, 3]
    with pytest.raises(DataError, match="borderline, contrast"):
        RuleSettings("false_refusal").check_prompts({"harmful": 3, "harmless": 2, "borderline": 1})
    with pytest.raises(DataError, match="borderline, contrast"):
        fit_rule(RuleSettings("false_refusal"), {"harmful": torch.randn(3, 2, 4), "harmless": torch.randn(3, 2, 4)}, 2)


def test_an_artifact_keeps_what_a_direction_goes_by():
    assert RuleSettings().recorded() == {"direction": "refusal", "per_kind": 64}
    surgical = RuleSettings("false_refusal", orthogonal=0.5, of_layer=0, layers=[1, 2], segment="none")
    assert surgical.recorded() == {"direction": "false_refusal", "per_kind": 64, "orthogonal": 0.5, "of_layer": 0}
    mapped = RuleSettings("null_space", per_kind=9, free=0.3, segment="last")
    known = {"direction": "null_space", "per_kind": 9, "free": 0.3, "ridge": 10.0, "segment": "last"}
    assert mapped.recorded() == known
