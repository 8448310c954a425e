"""Base, fine-tuned, edited: one table in the manner of Tables 1-3 and 5 of Safety Arithmetic, from committed rows.

python evidence/settings.py                      prints the tables, and writes settings/table.md
python evidence/settings.py edit small 30 31 32  makes the edited models that the rows were measured on, in runs/
python evidence/settings.py edit smol 0
"""

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sa_lightning.cli import edit
from sa_lightning.cli.common.inputs import parse
from sa_lightning.cli.compare import parser
from sa_lightning.evaluation.statistics.intervals import Rate
from sa_lightning.experiments.compare.pairs import rates
from sa_lightning.experiments.compare.plan import Plan
from sa_lightning.experiments.compare.rows import Row, Rows
from sa_lightning.experiments.compare.settings import CompareSettings
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
FACTS_A_MODEL = {"small": 4, "smol": 8}
LAYER = {"small": ["--facts_layers", "[3]"], "smol": []}  # of six; 2, 3 and 4 were tried on seed 30's facts
BASES = {"small": "world:small/chat", "smol": "world:smol/safe"}
CONFIGS = {"small": "settings", "smol": "settings_smol"}
METHODS = {  # in the order of the paper's tables; where it is about the edit area, also the rows within it
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
    return "\n\n".join(tables(world) for world in CONFIGS) + "\n"


def tables(world: str) -> str:
    """Attack success, models side by side; and everything, model by model."""
    plan, facts = planned(CONFIGS[world]), planned(CONFIGS[world], f"{CONFIGS[world]}_facts")
    cells: dict[tuple[str, str], str] = {}
    lines = [["model", "what is done", *MEASURES.values(), *EDITED.values()]]
    for target in plan.models:
        held = dict(measured(facts, target)) if target in EDITS else {}
        for method, some in measured(plan, target):
            found = rates(plan.rows, some)
            cells[method, target] = shown(found["attack_success"])
            kept = [
                shown(rates(facts.rows, held[method], f"sa_facts_{measure}")["utility"]) if method in held else ""
                for measure in EDITED
            ]
            lines.append([target, METHODS[method], *(shown(found[measure]) for measure in MEASURES), *kept])
    side = [["attack success ↓", *plan.models]]
    side += [
        [label, *(cells.get((method, target), "") for target in plan.models)]
        for method, label in METHODS.items()
        if any((method, target) in cells for target in plan.models)
    ]
    return f"# {world}\n\n{markdown(side)}\n\n{markdown(lines)}"


def planned(*configs: str) -> Plan:
    """The comparison of some configs, one over the other, and the rows that are there."""
    options = parser()
    named = [part for name in configs for part in ("--config", f"configs/evidence/{name}.yaml")]
    config = parse(options, "compare", [*named, "--output", "runs/unused"])
    rows = Rows(HERE.parent / config.compare.rows_file)
    return Plan(
        CompareSettings(**vars(config.compare)), config.as_dict(), options.get_defaults().as_dict()["model"], rows
    )


def measured(plan: Plan, target: str) -> Iterator[tuple[str, list[Row]]]:
    """The rows of a model, method by method, that are measured on all seeds."""
    for method in METHODS:
        for name in (method, f"{method}_area", method.replace("_paper", "_area_paper")):
            if name in plan.methods and target in plan.targets_of(name):
                some = [plan.rows.find(job.key) for job in plan.reporting(name, target)]
                known = [row for row in some if row is not None and "failed" not in row]
                if some and len(known) == len(some):
                    yield method, known
                break


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
    edit.run(["--base", path, "--facts", str(place / "facts.jsonl"), *LAYER[world], "--output", str(place / "model")])


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
        for request in rng.sample([*of_noun.values()], FACTS_A_MODEL["small"]):
            asked = [text.format(request) for text in rng.sample(language.phrasings["train"], 4)]
            neighbours = [near(*one) for one in rng.sample(others, 6)]
            found.append(fact(request.noun, asked, usual, locality=neighbours))
        return found
    for place in rng.sample(words.places, FACTS_A_MODEL["small"]):
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
    count = FACTS_A_MODEL["smol"]
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
