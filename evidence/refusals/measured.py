"""What the detector and the published lists say of labelled replies, with confusion matrices and intervals."""

import random
from collections import Counter
from unittest import mock

from sa_lightning.evaluation.degenerate import is_degenerate
from sa_lightning.evaluation.judges.registry import JUDGES
from sa_lightning.evaluation.refusal import detector as refusal
from sa_lightning.evaluation.statistics.rates import rate

DECLINED = ("refused", "partial")


def ours(rows, weights=None):
    """Outcomes of the package's detector, or of one with other weights."""
    weights = weights or refusal._weights()
    with mock.patch.object(refusal, "_weights", return_value=weights):
        return [refusal.judge(row["prompt"], row["response"]).value for row in rows]


def listed(rows, name):
    """Outcomes of a published list."""
    return [JUDGES[name](row["prompt"], row["response"], {}).value for row in rows]


def line(name, truth, found):
    """Print accuracy, recall and false refusals of any refusal, full or partial, with Wilson 95 % intervals."""
    pairs = Counter((right, said in DECLINED) for right, said in zip(truth, found, strict=True))
    yes, no = pairs[True, True], pairs[False, False]
    missed, false = pairs[True, False], pairs[False, True]
    shown = "  ".join(_interval(k, n) for k, n in ((yes + no, len(truth)), (yes, yes + missed), (false, false + no)))
    print(f"  {name:<28} {shown}   [{yes} {missed} / {false} {no}]")


def show(folds, action_rows, jailbreak_rows, never, left_out):
    """Print every table."""
    rows = [row for held, _ in folds for row in held]
    found = [said for held, weights in folds for said in ours(held, weights)]
    lists = sorted(name for name in JUDGES if name.startswith("phrases."))
    head = "accuracy              recall                false refusals       [found missed / false rejected]"

    print("XSTest, any refusal against final_label; family and prompts of what is judged were not fitted on")
    print(f"  {'':<28} {head}")
    truth = [row["label"] != "complied" for row in rows]
    line("ours", truth, found)
    for model in sorted({row["model"] for row in rows}):
        chosen = [row["model"] == model for row in rows]
        line(f"  on {model}", _where(truth, chosen), _where(found, chosen))
    for name in lists:
        line(name, truth, listed(rows, name))
    print("  outcomes of ours, by label:", dict(Counter(zip((row["label"] for row in rows), found, strict=True))))

    print("\nReplies of a small chat model and its copies, and invented forms: each left out of fitting in turn")
    truths, said = [], []
    for name, rows, weights in left_out:
        truth = [row["label"] != "complied" for row in rows]
        found = ours(rows, weights)
        line(name, truth, found)
        if name.startswith("replies of"):
            truths, said = truths + truth, said + found
    line("the models together", truths, said)
    small = [row for name, rows, _ in left_out if name.startswith("replies of") for row in rows]
    for name in lists:
        line(name, truths, listed(small, name))

    for file, rows in never.items():
        print(f"\n{file}: written for this project and never fitted on (one author's labels)")
        truth = [row["label"] != "complied" for row in rows]
        line("ours", truth, ours(rows))
        for name in lists:
            line(name, truth, listed(rows, name))

    print("\nDo-Not-Answer, flagged as a refusal: action 0 (refuses), action 5 (follows)")
    actions(action_rows, "ours", ours(action_rows))
    for name in lists:
        actions(action_rows, name, listed(action_rows, name))

    print("\nGPTFuzz, human label by outcome of ours")
    outcomes = ours(jailbreak_rows)
    print(" ", dict(Counter(zip((row["jailbroken"] for row in jailbreak_rows), outcomes, strict=True))))


def agreement(name, rows):
    """Print what share of two passes of labels agrees (declined or not), and Cohen's kappa."""
    pairs = [(row["label"] != "complied", row["second"] != "complied") for row in rows if "second" in row]
    agreed, total = sum(one is other for one, other in pairs), len(pairs)
    first, second = (sum(found) / total for found in zip(*pairs, strict=True))
    chance = first * second + (1 - first) * (1 - second)
    kappa = (agreed / total - chance) / (1 - chance)
    print(f"\n{name}: both passes of labels agree on {agreed} of {total}, kappa {kappa:.3f}")


def late(rows):
    """Print how many replies say one thing first and another behind."""
    found = [(row["label"], refusal.turns_late(row["prompt"], row["response"])) for row in rows]
    turned = Counter(label for label, turns in found if turns)
    print(f"\nXSTest, every third completion: {sum(turned.values())} of {len(rows)} turn late, by label {dict(turned)}")


def babble(replies, tokenizer):
    """Print what share of nonsense is degenerate, and how many replies of models are.

    Args:
        replies: By source, (prompt, reply) of each.
        tokenizer: A folder with a tokenizer whose tokens are drawn; None leaves that out.
    """
    drawn = random.Random(2)
    if tokenizer is None:
        print("\nBabble: --tokenizer FOLDER measures texts of tokens drawn by lot")
    else:
        from transformers import AutoTokenizer

        tokens = AutoTokenizer.from_pretrained(tokenizer)
        for length in (16, 24, 40, 80):
            texts = [tokens.decode([drawn.randrange(17, tokens.vocab_size) for _ in range(length)]) for _ in range(400)]
            print(f"Babble of {length} tokens: degenerate {sum(is_degenerate('how?', text) for text in texts)} of 400")
    for words in ("lamp chair tree", "the of and", "help step code"):
        for length in (12, 20, 40):
            texts = [" ".join(drawn.choice(words.split()) for _ in range(length)) for _ in range(200)]
            print(f"{words!r}, {length} by lot: degenerate {sum(is_degenerate('how?', text) for text in texts)} of 200")
    for name, pairs in replies.items():
        print(f"{name}: degenerate {sum(is_degenerate(*pair) for pair in pairs)} of {len(pairs)}")


def actions(rows, name, found):
    """Print what share of refusals and of answers is flagged, model by model."""
    cells = []
    for model in sorted({row["model"] for row in rows}):
        for action in (0, 5):
            said = [s for row, s in zip(rows, found, strict=True) if row["model"] == model and row["action"] == action]
            cells.append(_interval(sum(one in DECLINED for one in said), len(said)))
        cells[-2:] = [f"{model}: {cells[-2]} | {cells[-1]}"]
    print(f"  {name:<28} {'   '.join(cells)}")


def _interval(k, n):
    found = rate(k, n)
    return f"{found.rate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _where(values, chosen):
    return [value for value, take in zip(values, chosen, strict=True) if take]
