import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sa_lightning.models import Passage, collate, plan_batches
from sa_lightning.models.batches import common_prefix

members = st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 3))


@st.composite
def pairs(draw):
    """Pairs with a common beginning, read at their last tokens; or passages on their own."""
    found, size = [], draw(st.integers(1, 2))
    for _ in range(draw(st.integers(1, 9))):
        beginning = draw(st.lists(st.integers(1, 9), max_size=9))
        both = []
        for _ in range(size):
            rest, count = draw(members)
            ids = [*beginning, *rest]
            both.append(Passage(ids, tuple(range(max(0, len(ids) - count), len(ids)))))
        found.append(tuple(both))
    return found


@given(pairs=pairs(), budget=st.integers(1, 60), most=st.none() | st.integers(1, 4), share=st.booleans() | st.none())
@settings(max_examples=100, deadline=None)
def test_every_pair_is_in_one_batch_and_batches_keep_to_the_budget(pairs, budget, most, share):
    batches, shared = plan_batches(pairs, budget, most, share)
    assert sorted(index for batch in batches for index in batch) == list(range(len(pairs)))
    assert share is None or shared == share
    for batch in batches:
        made = collate([pairs[i] for i in batch], batch, [True] * len(batch), shared)
        assert len(batch) == 1 or made.tokens <= budget
        assert most is None or len(batch) <= most


@given(pairs=pairs(), share=st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_batch_holds_the_sequences_it_was_made_of_and_reads_where_they_say(pairs, share):
    batch = collate(pairs, range(len(pairs)), [True] * len(pairs), share)
    for side in range(batch.members):
        for row, pair in enumerate(pairs):
            index = row + side * len(pairs)
            before = []
            if batch.prefix is not None:
                before = batch.prefix[row][batch.prefix_mask[row].bool()].tolist()
                assert batch.prefix_mask[row].tolist() == sorted(batch.prefix_mask[row].tolist())  # padded on the left
            length = len(pair[side].ids) - len(before)
            assert [*before, *batch.input_ids[index, :length].tolist()] == pair[side].ids
            read = [len(before) + at for at, valid in zip(batch.read[index], batch.valid[index], strict=True) if valid]
            assert tuple(map(int, read)) == pair[side].read


@given(pairs=pairs(), count=st.integers(1, 5), share=st.booleans())
@settings(max_examples=50, deadline=None)
def test_parts_of_a_batch_are_batches_of_its_pairs(pairs, count, share):
    batch = collate(pairs, range(len(pairs)), [True] * len(pairs), share)
    parts = list(batch.chunks(count))
    assert torch.equal(torch.cat([part.groups for part in parts]), batch.groups)
    assert {part.members for part in parts} == {batch.members}
    for part in parts:
        at = part.groups.tolist()
        rows = [index + side * len(pairs) for side in range(batch.members) for index in at]
        assert torch.equal(part.input_ids, batch.input_ids[rows])
        assert (part.prefix is None) == (batch.prefix is None)
        assert part.prefix is None or torch.equal(part.prefix, batch.prefix[at])


def test_a_common_prefix_ends_before_the_first_token_that_is_read():
    same = Passage([1, 2, 3, 4], (2, 3))
    assert common_prefix((same, Passage([1, 2, 3, 5], (3,)))) == 2
    assert common_prefix((Passage([1, 2, 9], (2,)), Passage([1, 7, 9], (2,)))) == 1


@pytest.mark.parametrize(("prefix", "shared"), [(30, True), (3, False)])
def test_prefixes_are_shared_where_it_pays(prefix, shared):
    question = list(range(1, prefix + 1))
    pairs = [(Passage([*question, 60 + i, 61], (prefix + 1,)), Passage([*question, 70 + i, 62], (prefix + 1,)))
             for i in range(5)]  # fmt: skip
    if not shared:
        pairs = [
            tuple(Passage([*member.ids, *range(90)], (len(member.ids) + 89,)) for member in pair) for pair in pairs
        ]
    assert plan_batches(pairs, 10_000)[1] is shared
