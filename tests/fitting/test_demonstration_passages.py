"""Demonstrations as the passages that one tokenizer or another makes of them."""

from support.models import CHAT_TEMPLATE, word_tokenizer

from sa_lightning.fitting.demonstrations import Demonstrations


def test_pairs_are_tokenised_once_for_each_tokenizer_and_length(demonstrations):
    data, mine, yours = Demonstrations(str(demonstrations)), word_tokenizer(), word_tokenizer("a " + CHAT_TEMPLATE)
    data.read()
    passages = data.passages(mine)
    assert data.passages(mine) is passages
    others = data.passages(yours)
    assert [len(one.ids) - len(other.ids) for one, other in zip(others[0], passages[0], strict=True)] == [1, 1]
    assert data.truncated == 0
    assert max(len(member.ids) for pair in data.passages(yours, 8) for member in pair) == 8
    assert data.truncated > 0
    assert data.fingerprint(data.passages(mine)) == data.fingerprint(passages)
