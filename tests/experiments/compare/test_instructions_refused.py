"""A row with an instruction that the chat template does not write is refused before its model is loaded."""

from types import SimpleNamespace

import pytest
from support.manners import manner

from sa_lightning.errors import SettingError
from sa_lightning.experiments.compare.comparison import Comparison
from sa_lightning.experiments.compare.settings import Method

TOLD = {"prompting.instruction": "be brief"}


@pytest.mark.parametrize(
    "rows",
    [
        {"told": Method("prompted", set={**TOLD, "prompting.role": "system"})},
        {"told": Method("prompted", set=TOLD, choose={"prompting.role": ["user", "system"]})},
    ],
)
def test_a_system_role_is_tried_on_the_template_of_each_target(rows):
    def check(template, name="told"):
        plan = SimpleNamespace(
            methods=rows,
            targets_of=lambda row: [name],
            points=lambda row: (
                [{"prompting.role": role} for role in (rows[row].choose or {}).get("prompting.role", [])] or [{}]
            ),
        )
        module = SimpleNamespace(tokenizer=manner(template))
        Comparison._check_instructions(SimpleNamespace(config={}, plan=plan), name, module)

    for template in ("chatml", "llama3", "harmony"):
        check(template)
    for template in ("gemma", "deaf"):
        with pytest.raises(SettingError, match=r"(?s)The row told, on told: .*Set the role `user`"):
            check(template)
