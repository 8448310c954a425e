"""The table of `docs/settings.md` follows from published shapes and from what was measured."""

from pathlib import Path

import pytest
import yaml
from support.published import PUBLISHED
from support.reckoned import SAID, cost, sizes, table

ROOT = Path(__file__).resolve().parents[1]

# As the pages of the models on the Hub state them.
STATED = {
    "llama2_7b_chat": 6_738_415_616,
    "mistral_7b_instruct": 7_241_732_096,
    "llama3.1_8b_instruct": 8_030_261_248,
    "llama3.2_1b_instruct": 1_235_814_400,
    "qwen2.5_7b_instruct": 7_615_616_512,
    "qwen3_8b": 8_190_735_360,
    "gemma2_9b_it": 9_241_705_984,
    "olmoe_1b_7b_instruct": 6_919_161_856,
}


@pytest.mark.parametrize("name", STATED)
def test_a_published_shape_has_the_parameters_that_are_stated_of_it(name):
    assert sizes(PUBLISHED[name])[0] == STATED[name]


def test_of_a_mixture_a_token_passes_its_share_of_the_experts():
    parameters, active, _ = sizes(PUBLISHED["olmoe_1b_7b_instruct"])
    attention, experts = 4 * 2048**2 + 2 * 2048, 3 * 2048 * 1024
    norms, router = 2 * 2048, 64 * 2048
    assert active == 16 * (attention + norms + router + 8 * experts)
    assert parameters == 16 * (attention + norms + router + 64 * experts) + 2 * 50304 * 2048 + 2048


def test_what_was_measured_is_reckoned_of_what_was_measured():
    """An edit of a billion parameters took 10.8 s, and 100 pairs of 12 layers, once, 39.6 s."""
    blocks = 12 * (4 * 768 * 768 + 3 * 768 * 2048 + 2 * 768)
    assert cost(10**9, 0, 12, checkpoints=2).fit == pytest.approx(10.8)
    assert cost(10**9, 0, 12, checkpoints=2)[1:3] == (4e9, 6e9)
    one_pass = 60 + 32 + sum(6 * (layer + 1) / 12 for layer in range(12))  # forwards of a sequence through all layers
    assert cost(0, blocks, 12, checkpoints=2).fit == pytest.approx(2 * one_pass * 39.6 / 200)


def test_the_page_has_the_table():
    assert table() in (ROOT / "docs" / "settings.md").read_text()


def test_every_row_of_the_paper_is_there_with_what_it_publishes():
    """Fine-tunes and edited models have a base; three and two of them, and two bases, are the paper's."""
    settings = {name: yaml.safe_load((ROOT / "configs" / "models" / f"{name}.yaml").read_text()) for name in SAID}
    assert sorted("base" in found.get("surgery", {}) for found in settings.values()) == [False] * 2 + [True] * 5
    assert [name for name, found in settings.items() if "steering" in found] == [n for n in SAID if "edited" in n]
    assert all(cells[0].count(",") == 8 for cells in SAID.values())
