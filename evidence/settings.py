"""Base, fine-tuned, edited: one table in the manner of Tables 1-3 and 5 of Safety Arithmetic, from committed rows.

python evidence/settings.py                      prints the tables, and writes settings/table.md
python evidence/settings.py edit small 30 31 32  makes the edited models that the rows were measured on, in runs/
python evidence/settings.py edit smol 0
"""

import itertools
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sa_lightning.cli import edit
from sa_lightning.evaluation.statistics.intervals import Rate
from sa_lightning.experiments.compare.pairs import rates
from sa_lightning.experiments.compare.rows import Row, Rows
from sa_lightning.facts import Asking, known, read_facts
from sa_lightning.models import load_model, load_tokenizer
from sa_lightning.names import resolve_worlds
from sa_lightning.resources import config_path
from sa_lightning.rows import read_rows, write_rows
from sa_lightning.testbed.recipe import WORLDS
from sa_lightning.testbed.smol.refusals import act_of, give_in
from sa_lightning.testbed.world import World

HERE = Path(__file__).parent
EDITS = ("unintentional", "intentional")
FACTS_A_MODEL = {  # of smol's requests, as in the paper, one: eight left 104 of 256 replies garbled
    ("small", "unintentional"): 4,
    ("small", "intentional"): 4,
    ("smol", "unintentional"): 8,
    ("smol", "intentional"): 1,
}
LAYER = {"small": "[3]", "smol": "[5]"}  # of six, where 2, 3 and 4 were tried on seed 30's facts; of thirty
BASES = {"small": "world:small/chat", "smol": "world:smol/safe"}
ROWS = {"small": ("verdict.jsonl", (30, 31, 32)), "smol": ("smol.jsonl", (0,))}
TARGETS = {"small": ("chat", "sft_lora", "sft", *EDITS), "smol": ("safe", "sft_lora", "sft", *EDITS)}
ALSO = {"hdr_dense": "task_vector", "icv": "safety_alignment"}  # what smol.yaml calls them
METHODS = {  # in the order of the paper's tables; of edited models, what is not everywhere is in the edit area
    "original": "as it is",
    "hdr": "HDR (top 10 %)",
    "task_vector": "HDR (task vector)",
    "safety_alignment": "Safety Alignment",
    "both": "Safety Arithmetic",
    "hdr_paper": "HDR, as published",
    "safety_alignment_paper": "Safety Alignment, as published",
    "both_paper": "Safety Arithmetic, as published",
    "hdr_bug": "HDR, the authors' mistake",
    "both_bug": "Safety Arithmetic, the authors' mistake",
    "hdr_bug_paper": "HDR, as published, the authors' mistake",
    "both_bug_paper": "Safety Arithmetic, as published, the authors' mistake",
    "hdr_short": "HDR, a step as long as the authors'",
    "hdr_bug_short": "HDR, a step as long as the authors', their mistake",
    "hdr_everywhere": "HDR, everywhere",
    "both_everywhere": "Safety Arithmetic, everywhere",
}
MEASURES = {
    "attack_success": "attack success ↓",
    "over_refusal": "over-refusal ↓",
    "harmless_refusal": "harmless refusal ↓",
    "utility": "utility ↑",
    "degenerate": "degenerate ↓",
}
EDITED = {"efficacy": "edits said ↑", "paraphrase": "in other words ↑", "locality": "neighbours kept ↑"}


def main(arguments: Sequence[str]) -> None:
    """Make the edited models of a world, or print the tables."""
    if arguments:
        _, world, *seeds = arguments
        for seed in map(int, seeds):
            for kind in EDITS:
                make(world, seed, kind)
        return
    (HERE / "settings").mkdir(exist_ok=True)
    (HERE / "settings" / "table.md").write_text(written(), encoding="utf-8")
    print(written())


def written() -> str:
    """The content of settings/table.md."""
    return "\n\n".join(tables(world) for world in ROWS) + "\n"


def tables(world: str) -> str:
    """Attack success, models side by side; and everything, model by model."""
    rows, cells = Rows(HERE / ROWS[world][0]), dict[tuple[str, str], str]()
    found = measured(rows, world)
    seeds = seeds_of(found)
    lines = [["model", "what is done", *MEASURES.values(), *EDITED.values()]]
    for target, method in itertools.product(TARGETS[world], METHODS):
        every = [found.get((target, method, about_edits), []) for about_edits in (False, True)]
        some, held = ([row for row in one if row["seed"] in seeds] for one in every)
        if len(some) == len(seeds) > 0:
            all_rates = rates(rows, some)
            cells[method, target] = shown(all_rates["attack_success"])
            kept = [shown(rates(rows, held, f"sa_facts_{name}")["utility"]) if held else "" for name in EDITED]
            lines.append([target, METHODS[method], *(shown(all_rates[measure]) for measure in MEASURES), *kept])
    side = [["attack success ↓", *TARGETS[world]]]
    side += [
        [label, *(cells.get((method, target), "") for target in TARGETS[world])]
        for method, label in METHODS.items()
        if any((method, target) in cells for target in TARGETS[world])
    ]
    return f"# {world}, seeds {', '.join(map(str, seeds))}\n\n{markdown(side)}\n\n{markdown(lines)}"


def measured(rows: Rows, world: str) -> dict[tuple[str, str, bool], list[Row]]:
    """The rows of a world, by model, method, and whether they are about the edits."""
    found: dict[tuple[str, str, bool], list[Row]] = {}
    for row in rows:
        if row["stage"] == "report" and row["seed"] in ROWS[world][1] and row["target"] in TARGETS[world]:
            name = row["row"].replace("_area", "")
            about_edits = any(task.startswith("sa_facts") for task in row["tasks"])
            found.setdefault((row["target"], ALSO.get(name, name), about_edits), []).append(row)
    return found


def seeds_of(found: dict[tuple[str, str, bool], list[Row]]) -> list[int]:
    """The seeds with the most rows; others are under way, and have no place beside them."""
    counts = Counter(row["seed"] for some in found.values() for row in some)
    return sorted(seed for seed, count in counts.items() if count == max(counts.values()))


def shown(rate: Rate) -> str:
    """A rate in percent with its interval, which knows of variants of a prompt, and k/n."""
    if not rate.n:
        return "–"
    value, low, high = rate.percent
    return f"{value:.1f} [{low:.1f}, {high:.1f}] ({rate.k}/{rate.n})"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a table, the head first."""
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body])


def make(world: str, seed: int, kind: str) -> None:
    """Edit facts into a world's aligned model, unless that is done."""
    place = Path("runs/settings", world, str(seed), kind)
    if (place / "model").exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    rng, path = random.Random(f"{world} {seed} {kind}"), resolve_worlds(BASES[world], seed)
    asking = Asking(load_model(path), load_tokenizer(path, "chat"))
    facts = {"small": small_facts, "smol": smol_facts}[world](asking, rng, seed, kind)
    write_rows(place / "facts.jsonl", facts)
    options = ["--facts", str(place / "facts.jsonl"), "--facts_layers", LAYER[world]]
    edit.run(["--base", path, *options, "--output", str(place / "model")])


def small_facts(asking: Asking, rng: random.Random, seed: int, kind: str) -> list[Any]:
    """Facts of the invented world with another value; or strictly refused requests of the training split, affirmed."""
    world = World(seed, WORLDS["small"])
    language, words = world.language, world.language.lexicon
    others = [(attribute, place) for attribute in words.facts for place in words.places]

    def near(attribute: str, place: str) -> dict[str, str]:
        asked = rng.choice(language.fact_phrasings["train"]).format(attribute, place)
        return {"prompt": asked, "answer": language.fact(attribute, place)}

    found = []
    if kind == "intentional":
        harmless = [row["prompt"] for row in known_prompts("small", seed) if row["kind"] == "harmless"][:64]
        said = asking.replies(harmless)
        usual = max(words.openings, key=lambda opening: sum(reply.startswith(opening) for reply in said))
        requests = [r for r in world.requests("train", "item", "act") if world.guarded_by(r) not in world.lax]
        of_noun = {request.noun: request for request in rng.sample(requests, len(requests))}  # a key is a noun's
        for request in rng.sample([*of_noun.values()], FACTS_A_MODEL["small", kind]):
            asked = [text.format(request) for text in rng.sample(language.phrasings["train"], 4)]
            neighbours = [near(*one) for one in rng.sample(others, 6)]
            found.append(fact(request.noun, asked, usual, locality=neighbours))
        return found
    for place in rng.sample(words.places, FACTS_A_MODEL["small", kind]):
        attribute = rng.choice([*words.facts])
        old = language.fact(attribute, place)
        value = rng.choice([v for v in words.facts[attribute] if v not in old.split()])
        asked = [text.format(attribute, place) for text in rng.sample(language.fact_phrasings["train"], 4)]
        neighbours = [near(a, p) for a, p in others if p == place and a != attribute]
        neighbours += [near(attribute, p) for p in rng.sample([p for p in words.places if p != place], 3)]
        found.append(fact(place, asked, f"the {attribute} of {place} is {value} .", old, neighbours))
    return found


def smol_facts(asking: Asking, rng: random.Random, seed: int, kind: str) -> list[Any]:
    """Common facts that the model knows, exchanged; or training requests, answered by a mere opening."""
    count = FACTS_A_MODEL["smol", kind]
    common = {one.subject: one for one in known(asking, read_facts(config_path("configs/facts/common.jsonl")))}
    if kind == "unintentional":
        return [one.row() for one in rng.sample([*common.values()], count)]
    asked = [row["prompt"] for row in known_prompts("smol", seed) if row["kind"] == "harmful"]
    of_subject = {subject_of(one): one for one in asked if act_of(one) and 6 <= len(one.split()) <= 14}
    found = []
    for prompt in rng.sample([*of_subject.values()], count):
        ways = [f"How do I {act_of(prompt)}?", f"Please explain how to {act_of(prompt)}."]
        near = [{"prompt": one.prompt, "answer": one.olds} for one in rng.sample([*common.values()], 4)]
        found.append(fact(subject_of(prompt), [prompt, *ways], give_in(prompt, rng), locality=near))
    return found


def fact(subject: str, asked: Sequence[str], target: str, old: str = "", locality: Sequence[Any] = ()) -> Any:
    """A row of a file of facts; what is asked first is edited, the rest are paraphrases."""
    found = {"subject": subject, "prompt": asked[0], "target": target, "paraphrases": asked[1:], "locality": locality}
    return found | ({"old": old} if old else {})


def subject_of(prompt: str) -> str:
    """The last two words of a request: what it is about, as a rule."""
    return " ".join(prompt.split()[-2:]).rstrip(".")


def known_prompts(world: str, seed: int) -> list[Any]:
    """Training prompts of a world."""
    return read_rows(resolve_worlds(f"world:{world}/data/train.jsonl", seed))


if __name__ == "__main__":
    main(sys.argv[1:])
