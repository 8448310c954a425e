"""Prompts of several turns: a gate reads the last token before the reply, behind the whole conversation."""

import pytest
import torch
from support.manners import manner, talker

from sa_lightning.errors import DataError
from sa_lightning.fitting.prompts import PromptStates, read_prompts
from sa_lightning.models import LoadedModel, tokenize

LAST = {"role": "user", "content": "do i bake"}
TURNS = [{"role": "user", "content": "how"}, {"role": "assistant", "content": "no ."}, LAST]


@pytest.fixture
def prompts(tmp_path):
    def read(text):
        (tmp_path / "p.jsonl").write_text(text)
        return read_prompts(tmp_path / "p.jsonl")

    return read


def test_a_gate_reads_a_conversation_to_its_end(prompts):
    import json

    rows = [{"messages": TURNS, "kind": "harmful"}, {"prompt": [LAST], "kind": "harmful"},
            {"prompt": LAST["content"], "kind": "harmful"}]  # fmt: skip
    found = prompts("".join(json.dumps(row) + "\n" for row in rows))["harmful"]
    tokenizer, network = manner("bos", begins=True), talker()
    (states,) = PromptStates(LoadedModel(network, tokenizer), [1]).of({"harmful": found}).values()
    for messages, state in zip((TURNS, [LAST], [LAST]), states[:, 0], strict=True):
        ids, _ = tokenize(tokenizer, messages)
        hidden = network(torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0, -1]
        torch.testing.assert_close(state, hidden, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(states[0], states[1], atol=1e-3)  # the earlier turns are in it
    assert torch.equal(states[1], states[2])


@pytest.mark.parametrize(
    ("turns", "fact"),
    [
        ("[]", "does not end with a turn of the user"),
        ('[{"role": "user", "content": "how"}, {"role": "assistant", "content": "no"}]', "does not end with a turn"),
        ('[{"role": "user", "content": " "}]', "turn 1 has no `role` and `content` that say something"),
        ('[{"role": "user"}]', "turn 1 has no `role`"),
        ('["how"]', "turn 1 has no `role`"),
        ("{}", "that is not text"),
    ],
)
def test_turns_that_ask_nothing_are_refused_with_the_row(prompts, turns, fact):
    with pytest.raises(DataError, match=rf"Line 1 of .*{fact}"):
        prompts(f'{{"messages": {turns}, "kind": "harmful"}}\n')
