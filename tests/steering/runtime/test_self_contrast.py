"""Self-CD against itself written slowly, and its laws, on Llama-, GPT-2- and Mistral-shaped models."""

import pytest
import torch
from references import self_contrast as reference
from support.models import WORDS, gpt2, llama, mistral

from sa_lightning.errors import ModelError, SettingError
from sa_lightning.steering import SelfContrast

STEPS = 8


MODELS = {"llama": llama, "gpt2": gpt2, "mistral": mistral}
every_model = pytest.mark.parametrize("name", MODELS)


def pairs(count=5):
    """Prompts of different length, and the same with instructions of different length before them."""
    draw = torch.Generator().manual_seed(4)
    found = []
    for number in range(count):
        words = torch.randint(6, 6 + len(WORDS), (3 + 2 * (number % 3) + 4,), generator=draw).tolist()
        told = 2 + number % 3
        found.append(([1, *words[told:]], [1, *words]))
    return [plain for plain, _ in found], [instructed for _, instructed in found]


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def generate(model, rows, processors=(), **settings):
    """Greedy tokens behind the prompts, and the logits that they were chosen from."""
    given = padded(rows)
    settings = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, "pad_token_id": 0, **settings}
    with torch.no_grad():
        out = model.generate(
            **given, logits_processor=[*processors], return_dict_in_generate=True, output_scores=True, **settings
        )
    return out.sequences[:, given["input_ids"].shape[1] :].tolist(), torch.stack(out.scores, 1)


def contrasted(model, plain, instructed, ratio, **settings):
    second = padded(instructed)
    processor = SelfContrast(model, second["input_ids"], second["attention_mask"], ratio)
    return generate(model, plain, [processor], **settings)


@every_model
def test_a_ratio_of_one_is_greedy_decoding_without_the_instruction_and_of_zero_with_it(name):
    model, (plain, instructed) = MODELS[name](), pairs()
    without, scores = generate(model, plain)
    found, same = contrasted(model, plain, instructed, 1.0)
    assert found == without
    assert torch.equal(same, scores)
    with_, _ = generate(model, instructed)
    assert contrasted(model, plain, instructed, 0.0)[0] == with_
    assert with_ != without
    assert contrasted(model, plain, instructed, 2.5)[0] not in (without, with_)


@every_model
@pytest.mark.parametrize("ratio", [2.5, 0.4, -1.0])
def test_tokens_and_logits_are_those_of_the_slow_reference(name, ratio):
    model, (plain, instructed) = MODELS[name](), pairs()
    # `min_new_tokens` rules the end of a reply out, of which the reference knows nothing.
    found, scores = contrasted(model, plain, instructed, ratio, min_new_tokens=None, eos_token_id=None)
    for row, (first, second) in enumerate(zip(plain, instructed, strict=True)):
        tokens, expected = reference.generate(model, first, second, ratio, STEPS)
        assert found[row] == tokens
        assert torch.allclose(scores[row], expected.float(), atol=1e-4)


@every_model
def test_a_batch_says_what_its_rows_say_alone(name):
    model, (plain, instructed) = MODELS[name](), pairs()
    together, scores = contrasted(model, plain, instructed, 2.5)
    for row, (first, second) in enumerate(zip(plain, instructed, strict=True)):
        alone, own = contrasted(model, [first], [second], 2.5)
        assert together[row] == alone[0]
        assert torch.allclose(scores[row], own[0], atol=1e-4)


def test_a_row_that_has_ended_changes_no_other():
    model, (plain, instructed) = llama(), pairs()
    found, _ = contrasted(model, plain, instructed, 2.5, min_new_tokens=None, eos_token_id=None)
    end = found[0][1]
    until = [row[: row.index(end) + 1] if end in row else row for row in found]
    stopped, _ = contrasted(model, plain, instructed, 2.5, min_new_tokens=None, eos_token_id=end)
    assert len({len(row) for row in until}) > 1
    for row, expected in zip(stopped, until, strict=True):
        assert row[: len(expected)] == expected


def test_each_generation_has_a_processor_of_its_own_and_one_says_what_the_other_said():
    model, (plain, instructed) = llama(), pairs()
    first = contrasted(model, plain, instructed, 2.5)
    contrasted(model, plain[:2], instructed[1:3], 2.5)
    again = contrasted(model, plain, instructed, 2.5)
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])


def test_each_token_costs_one_token_of_the_second_prompt():
    model, (plain, instructed) = llama(), pairs()
    widths = []
    model.model.register_forward_hook(lambda module, args, kwargs, out: widths.append(kwargs["input_ids"].shape[1]),
                                      with_kwargs=True)  # fmt: skip
    contrasted(model, plain, instructed, 2.5)
    assert widths == [max(map(len, plain)), max(map(len, instructed)), *[1] * (2 * STEPS - 2)]


def test_what_is_ruled_out_stays_ruled_out():
    model, (plain, instructed) = llama(), pairs()
    _, scores = contrasted(model, plain, instructed, 2.5, suppress_tokens=[7, 8])
    assert torch.isneginf(scores[..., [7, 8]]).all()
    assert not scores.isnan().any()
    _, scores = contrasted(model, plain, instructed, 1.0, suppress_tokens=[7, 8])
    assert torch.isneginf(scores[..., [7, 8]]).all()


@pytest.mark.parametrize("ratio", [float("nan"), float("inf")])
def test_a_ratio_that_is_no_number_is_refused(ratio):
    second = padded(pairs()[1])
    with pytest.raises(SettingError, match="Give a finite number"):
        SelfContrast(llama(), second["input_ids"], second["attention_mask"], ratio)


def test_padding_on_the_right_is_refused():
    second = padded(pairs()[1])
    mask = second["attention_mask"].clone()
    mask[:2, -1] = 0
    with pytest.raises(SettingError, match="2 of 5 second prompts end in padding"):
        SelfContrast(llama(), second["input_ids"], mask, 2.5)


def test_what_does_not_follow_on_is_refused():
    model, (plain, instructed) = llama(), pairs()
    second = padded(instructed)
    processor = SelfContrast(model, second["input_ids"], second["attention_mask"], 2.5)
    generate(model, plain, [processor])
    with pytest.raises(ModelError, match="Make a new SelfContrast for each `generate`"):
        generate(model, plain, [processor])
    with pytest.raises(ModelError, match="5 second prompts go on"):
        contrasted(model, plain, instructed, 2.5, num_beams=2)


def test_a_model_without_a_cache_is_refused():
    model, (plain, instructed) = llama(), pairs()
    model.register_forward_hook(lambda module, args, out: out.__class__(logits=out.logits))
    with pytest.raises(ModelError, match="returns no KV cache"):
        contrasted(model, plain, instructed, 2.5, use_cache=False)
