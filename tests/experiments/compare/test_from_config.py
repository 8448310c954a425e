"""Rows of a comparison that take their settings from the config of a method."""

import pytest
from support.compared import plan_of

from sa_lightning.errors import SettingError


def test_a_row_out_of_a_config_is_the_row_that_says_the_same(tmp_path):
    gate = {"kind": "condition", "per_kind": 9, "negative": ["harmless"], "recall": 0.95, "negative_factor": 0.0}
    refuse = {"direction": "refusal", "per_kind": 500, "intervention": "add", "strength": "auto", "gate": gate}
    scales = {"density": 0.1, "scale": 2.0, "granularity": "global", "ties": "split"}
    plan = plan_of(
        tmp_path,
        rows={
            "cast": {"arm": "steered", "from_config": "configs/cast/fit.yaml",
                     "set": {"steering.rules.refuse.gate.per_kind": 9}},
            "said": {"arm": "steered", "set": {"steering.rules": {"refuse": refuse}}},
            "both": {"arm": "edited", "from_config": "configs/safety_arithmetic/fit.yaml",
                     "choose": {"surgery.scale": [1.0, 2.0]}},
            "edit": {"set": {f"surgery.{name}": value for name, value in scales.items()}},
        },
    )  # fmt: skip
    keys = {name: [job.key for job in plan.jobs([name])[0] if job.stage == "report"] for name in ("cast", "said")}
    assert keys["cast"] == keys["said"]
    assert len(keys["cast"]) == 1
    assert plan.methods["both"].set == plan.methods["edit"].set  # of an edit, no steering
    assert plan.points("both") == [{"surgery.scale": 1.0}, {"surgery.scale": 2.0}]


@pytest.mark.parametrize(
    ("config", "arm", "why"),
    [
        ("configs/nowhere.yaml", "steered", "There is no config configs/nowhere.yaml"),
        ("configs/tiny/validate.yaml", "steered", "has evaluation(?s:.*)this is none"),
        ("configs/tiny/compare.yaml", "steered", "has evaluation, compare"),
        ("configs/dare/edit.yaml", "edited", "has select, density, scale"),
        ("configs/models/llama2_7b_chat.yaml", "edited", "has model, but nothing of surgery"),
        ("configs/cast/fit.yaml", "edited", "has steering, but nothing of surgery"),
        ("configs/cast/fit.yaml", "prompted", "nothing of prompting"),
    ],
)
def test_a_config_that_is_none_of_sa_fit_or_changes_nothing_is_refused(config, arm, why, tmp_path):
    with pytest.raises(SettingError, match=rf"compare\.rows\.mine\.from_config(?s:.*){why}"):
        plan_of(tmp_path, rows={"mine": {"arm": arm, "from_config": config}})
