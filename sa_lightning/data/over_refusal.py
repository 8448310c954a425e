"""Prompts that only look unsafe, and ordinary ones."""

from sa_lightning.data.benchmark import ARXIV, GITHUB, Benchmark, Hub, Layout, Part, Row


def _xstest_cluster(row: Row) -> str:
    """A contrast shares family and focus with the safe prompts that it is the contrast of.

    Four types of safe prompts share two sets of contrasts, on discrimination and on privacy. Types without a focus
    (historical events, nonsense groups) do not say which prompts belong together.
    """
    family = str(row["type"]).removeprefix("contrast_")
    family = {"real_group_nons_discr": "discr", "privacy_public": "privacy", "privacy_fictional": "privacy"}.get(
        family, family
    )
    focus = str(row.get("focus") or "").strip().lower()
    return f"{family}/{focus}" if focus else ""


OVER_REFUSAL = {
    "xstest": Benchmark(
        kind="mixed", licence="CC-BY-4.0", redistributable=True, paper=ARXIV + "2308.01263",
        source=GITHUB + "paul-rottger/exaggerated-safety",
        parts={"prompts": Part(
            files=("xstest/xstest_prompts.csv",), n=450, columns=("id", "prompt", "type", "label"),
            hub=Hub(id="Paul/XSTest", split="train"),
            sha256=("11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",),
        )},
        note="250 safe prompts that look unsafe, 200 unsafe contrasts.",
        layout=Layout(
            prompt="prompt", id="id", category=lambda row: row["type"].removeprefix("contrast_"),
            cluster=_xstest_cluster,
        ),
        tasks={"sa_xstest_safe": 250, "sa_xstest_unsafe": 200},
    ),
    "oktest": Benchmark(
        kind="borderline", licence="none stated", redistributable=False, paper=ARXIV + "2401.17633",
        source=GITHUB + "InvokerStark/OverKill",
        parts={"prompts": Part(
            files=("oktest/OKTest.csv",), n=300, columns=("prompt",),
            sha256=("1be3e8d3fe6b45a170653da63c8cf70dbf97508a48735e65db0713a44e158860",),
        )},
        layout=Layout(prompt="prompt"), tasks={"sa_oktest": 300},
    ),
    "oktest_heldout": Benchmark(
        kind="borderline", licence="none stated", redistributable=False, paper=ARXIV + "2401.17633",
        source=GITHUB + "InvokerStark/OverKill",
        parts={"prompts": Part(
            files=("oktest_heldout/OKTest_heldout.csv",), n=50, columns=("prompt",),
            sha256=("af0abf57762023b0302b25107b82de15e6fb2340709b04762fb459e10c6960f7",),
        )},
        note="To choose settings on. 10 of its questions are in OKTest too.", layout=Layout(prompt="prompt"),
        tasks={"sa_oktest_heldout": 50},
    ),
    "or_bench_hard": Benchmark(
        kind="borderline", licence="CC-BY-4.0 (as its card says)", redistributable=True, paper=ARXIV + "2405.20947",
        source="https://huggingface.co/datasets/bench-llm/or-bench",
        parts={"hard": Part(
            files=("or_bench_hard/or-bench-hard-1k.csv",), n=1319, columns=("prompt", "category"),
            hub=Hub(id="bench-llm/or-bench", split="train", config="or-bench-hard-1k"),
            sha256=("a6e2f1166416efe5901f3bb05c47dc92ab3aca3acfe143693d38b8057d841e6d",),
        )},
        layout=Layout(prompt="prompt", category="category"), tasks={"sa_orbench_hard": 1319},
    ),
    "jbb_benign": Benchmark(
        kind="borderline", licence="MIT", redistributable=True, paper=ARXIV + "2404.01318",
        source="https://huggingface.co/datasets/JailbreakBench/JBB-Behaviors",
        parts={"benign": Part(
            files=("jbb_benign/goals.txt",), n=100, columns=("Goal",), names=("Goal",),
            hub=Hub(
                id="JailbreakBench/JBB-Behaviors", split="benign", config="behaviors",
                revision="886acc352a31533ffbcf4ef22c744658688086fc",
            ),
            sha256=("2abff9faf3475e9e2df158ed9a1a849645f9fa2ef65c241a541619c4347472ef",),
        )},
        note="The local layout is a goal a line; categories are only on the Hub.",
        layout=Layout(prompt="Goal", category=lambda row: str(row.get("Category") or "")), tasks={"sa_jbb_benign": 100},
    ),
    "coconot": Benchmark(
        kind="borderline", licence="MIT (repository), ODC-BY (Hub)", redistributable=True, paper=ARXIV + "2407.12043",
        source=GITHUB + "allenai/noncompliance",
        parts={
            "contrast": Part(
                files=("coconot/coconot_contrast_eval.jsonl",), n=379, columns=("id", "category", "prompt"),
                hub=Hub(id="allenai/coconot", split="test", config="contrast"),
                sha256=("76dccec176743ed656279f2969c51abb68bda94e5fda8397e34ff5638e021d86",),
            ),
            "original": Part(
                files=("coconot/coconot_eval.jsonl",), n=1001, columns=("id", "category", "prompt"),
                hub=Hub(id="allenai/coconot", split="test", config="original"),
                sha256=("df72466c477207f14a96c5940c3ef3b93b1b50c0d1e7ed7c5fb5dc6d6140c077",),
            ),
        },
        note=(
            "The contrast set should be complied with; the original set should not, for reasons that are not all "
            "safety."
        ),
        layout=Layout(prompt="prompt", id="id", category="category"), tasks={"sa_coconot_contrast": 379},
    ),
    "nointentedit": Benchmark(
        kind="harmless", licence="none stated", redistributable=False, paper=ARXIV + "2406.11801",
        source=GITHUB + "declare-lab/safety-arithmetic",
        parts={"edits": Part(
            files=("nointentedit/Unintentional_Edit_Instance.xlsx",), n=43, columns=("Cluster", "Question", "Answer"),
            sha256=("6612e09ff14298ed1ac77a58522259a636cca33f99672034d3074573b4cb18de",),
        )},
        note="Harmless facts that models are edited with; harm after such edits is measured on the other sets.",
        layout=Layout(prompt="Question", category="Cluster"), tasks={"sa_nointentedit": 43},
    ),
}  # fmt: skip
"""Name to data set."""
