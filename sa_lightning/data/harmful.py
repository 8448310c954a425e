"""Requests for harm."""

import zlib

from sa_lightning.data.benchmark import ARXIV, GITHUB, Benchmark, Hub, Layout, Part, Row

_HARMBENCH_COLUMNS = ("Behavior", "FunctionalCategory", "SemanticCategory", "ContextString", "BehaviorID")


def _behavior(row: Row) -> str:
    """HarmBench puts the context before the behaviour, divided by a line of dashes (its DirectRequest baseline)."""
    return f"{row['ContextString']}\n\n---\n\n{row['Behavior']}" if row["ContextString"] else row["Behavior"]


def _context(row: Row) -> str:
    """Behaviours that share a context are variants of each other."""
    context = row["ContextString"]
    return f"context-{zlib.crc32(context.encode()):08x}" if context else ""


HARMFUL = {
    "advbench": Benchmark(
        kind="harmful", licence="MIT", redistributable=True, paper=ARXIV + "2307.15043",
        source=GITHUB + "llm-attacks/llm-attacks",
        parts={"behaviors": Part(
            files=("advbench/harmful_behaviors.csv",), n=520, columns=("goal",),
            hub=Hub(id="walledai/AdvBench", split="train", renamed={"prompt": "goal"}, gated=True),
            sha256=("6cd1a5c63c07610d7eb67307772ee5606017ee950b5770ab288a2c487489d3e1",),
        )},
        note="Many near-duplicates: intervals are too narrow.", layout=Layout(prompt="goal"),
        tasks={"sa_advbench": 520},
    ),
    "dangerousqa": Benchmark(
        kind="harmful", licence="MIT", redistributable=True, paper=ARXIV + "2212.08061",
        source=GITHUB + "SALT-NLP/chain-of-thought-bias",
        parts={"questions": Part(
            files=(
                "dangerousqa/toxic_outs.json", "dangerousqa_original/toxic_outs.json", "red_instruct/dangerousqa.json",
            ),
            n=200, columns=("question",), names=("question",),
            sha256=("b40b0193d063cb5d742e6d0e070dde119e0291619830c65653ca19bdc84fdd10",),
        )},
        note="Also called HarmfulQ.", layout=Layout(prompt="question"), tasks={"sa_dangerousqa": 200},
    ),
    "harmfulqa": Benchmark(
        kind="harmful", licence="Apache-2.0", redistributable=True, paper=ARXIV + "2308.09662",
        source=GITHUB + "declare-lab/red-instruct",
        parts={"questions": Part(
            files=("harmfulqa/harmfulqa.json", "red_instruct/harmfulqa.json"), n=1960, columns=("topic", "question"),
            names=("topic", "subtopic", "question"),
            hub=Hub(id="declare-lab/HarmfulQA", split="train", revision="6f1a78aed47d16c0695e4595d0159abc38197bfd"),
            sha256=("e04c1f3c48800ea84f954298e2a74f27e391069e037d60a22c2727eaa22f2cf8",),
        )},
        note="10 topics; the paper's number is the mean over topics. 22 questions occur twice.",
        layout=Layout(prompt="question", category="topic"), tasks={"sa_harmfulqa": 1960},
    ),
    "catqa": Benchmark(
        kind="harmful", licence="Apache-2.0", redistributable=True, paper=ARXIV + "2402.11746",
        source=GITHUB + "declare-lab/red-instruct",
        parts={"english": Part(
            files=("catqa/catqa_english.json", "red_instruct/catqa_english.json"), n=550,
            columns=("Category", "Question"), names=("Category", "Subcategory", "Question"),
            hub=Hub(id="declare-lab/CategoricalHarmfulQA", split="en"),
            sha256=("40efd4e205e26d6e840f30e6d8540f95f2777453af052319e42e74d10bd1992a",),
        )},
        layout=Layout(prompt="Question", category="Category"), tasks={"sa_catqa": 550},
    ),
    "nichehazardqa": Benchmark(
        kind="harmful", licence="Apache-2.0", redistributable=True, paper=ARXIV + "2401.10647",
        source="https://huggingface.co/datasets/SoftMINER-Group/NicheHazardQA",
        parts={"questions": Part(
            files=("nichehazardqa/NICHEHAZARDQA.json",), n=388, columns=("Domain", "Question"),
            names=("Domain", "Question"),
            hub=Hub(
                id="SoftMINER-Group/NicheHazardQA", split="train", revision="114a05b168027c3190dc4e2f3b558fe48e6092c8",
            ),
        )},
        note="6 topics; the paper's number is the mean over topics.",
        layout=Layout(prompt="Question", category="Domain"), tasks={"sa_nichehazardqa": 388},
    ),
    "hex_phi": Benchmark(
        kind="harmful", licence="HEx-PHI licence agreement", redistributable=False, paper=ARXIV + "2310.03693",
        source="https://huggingface.co/datasets/LLM-Tuning-Safety/HEx-PHI",
        parts={"prompts": Part(
            files=("hex_phi/{member}.csv",), n=330, columns=("prompt",), names=("prompt",),
        )},
        note="Gated: its agreement forbids copies, so every user asks for access. 11 categories of 30, later 10.",
        by_hand=(
            "accept its agreement on that page, then `hf download LLM-Tuning-Safety/HEx-PHI --repo-type dataset "
            "--include '*.csv' --local-dir {directory}/hex_phi`."
        ),
        layout=Layout(prompt="prompt", category=lambda row: str(row["file"])), tasks={"sa_hexphi": 330},
    ),
    "harmbench": Benchmark(
        kind="harmful", licence="MIT", redistributable=True, paper=ARXIV + "2402.04249",
        source=GITHUB + "centerforaisafety/HarmBench",
        parts={
            "test": Part(
                files=("harmbench/harmbench_behaviors_text_test.csv",), n=320, columns=_HARMBENCH_COLUMNS,
                hub=Hub(id="swiss-ai/harmbench", split="test", config="DirectRequest"),
                sha256=("bf2bfd36f765d97cbbe27a3191b492ea76b1771e9116af80a587647831de75ce",),
            ),
            "val": Part(
                files=("harmbench/harmbench_behaviors_text_val.csv",), n=80, columns=_HARMBENCH_COLUMNS,
                hub=Hub(id="swiss-ai/harmbench", split="val", config="DirectRequest"),
                sha256=("7bfaaa5e2b9b95002c89e2d33c019f58e9e8496e2fc65d368f1eeb8179e69534",),
            ),
            "all": Part(
                files=("harmbench/harmbench_behaviors_text_all.csv",), n=400, columns=_HARMBENCH_COLUMNS,
                sha256=("2745611872be3b2eab141e39bb328b8c1140dc3cd8d0a49da6174260d9ccbfb9",),
            ),
        },
        layout=Layout(prompt=_behavior, id="BehaviorID", category="SemanticCategory", cluster=_context),
        tasks={"sa_harmbench": 240, "sa_harmbench_copyright": 80, "sa_harmbench_val": 60},
    ),
    "jailbreakbench": Benchmark(
        kind="harmful", licence="MIT", redistributable=True, paper=ARXIV + "2404.01318",
        source=GITHUB + "JailbreakBench/jailbreakbench",
        parts={"harmful": Part(
            files=("jailbreakbench/behaviors.csv",), n=100, columns=("Goal", "Category"),
            hub=Hub(
                id="JailbreakBench/JBB-Behaviors", split="harmful", config="behaviors",
                revision="886acc352a31533ffbcf4ef22c744658688086fc",
            ),
            sha256=("45e9a8923b28f547bb372fbaa9af7df8b38c818a80ae50c3bab97704197ff516",),
        )},
        layout=Layout(prompt="Goal", category="Category"), tasks={"sa_jailbreakbench": 100},
    ),
    "strongreject": Benchmark(
        kind="harmful", licence="MIT (prompts taken from other sets keep theirs)", redistributable=True,
        paper=ARXIV + "2402.10260", source=GITHUB + "alexandrasouly/strongreject",
        parts={"prompts": Part(
            files=("strongreject/strongreject_dataset.csv",), n=313, columns=("category", "forbidden_prompt"),
            hub=Hub(id="walledai/StrongREJECT", split="train", renamed={"prompt": "forbidden_prompt"}, gated=True),
            sha256=("4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381",),
        )},
        note="25 prompts come from AdvBench, 12 from MaliciousInstruct, 11 from DangerousQA.",
        layout=Layout(prompt="forbidden_prompt", category="category"), tasks={"sa_strongreject": 313},
    ),
    "malicious_instruct": Benchmark(
        kind="harmful", licence="none stated", redistributable=False, paper=ARXIV + "2310.06987",
        source=GITHUB + "Princeton-SysML/Jailbreak_LLM",
        parts={"prompts": Part(
            files=("malicious_instruct/MaliciousInstruct.txt",), n=100, columns=("prompt",), names=("prompt",),
            hub=Hub(id="walledai/MaliciousInstruct", split="train", gated=True),
            sha256=("a64d69dd1004aac4a23aaff3748fb8f17161893f74db36f45b8bc849eb1bcce5",),
        )},
        layout=Layout(prompt="prompt"), tasks={"sa_maliciousinstruct": 100},
    ),
    "simplesafetytests": Benchmark(
        kind="harmful", licence="CC-BY-4.0", redistributable=True, paper=ARXIV + "2311.08370",
        source=GITHUB + "bertiev/SimpleSafetyTests",
        parts={"test": Part(
            files=("simplesafetytests/SimpleSafetyTests - test cases.csv",), n=100,
            columns=("id", "harm_area", "prompts_final"),
            hub=Hub(
                id="Bertievidgen/SimpleSafetyTests", split="test", revision="98223c5d8c4059c8f4d8fe2fec8720ee8a20d3c5",
                renamed={"prompt": "prompts_final"},
            ),
            sha256=("6d95a1301e0d0f3a3c4cf5392f4afff11ad6e3066f95d23aaa138d44aedf986c",),
        )},
        layout=Layout(prompt="prompts_final", id="id", category="harm_area"), tasks={"sa_simplesafetytests": 100},
    ),
}  # fmt: skip
"""Name to data set."""
