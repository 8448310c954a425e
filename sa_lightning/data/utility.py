"""General ability."""

from sa_lightning.data.benchmark import ARXIV, GITHUB, Benchmark, Hub, Part

_TRUTHFULQA = "truthfulqa/truthful_qa"
_MMLU_COLUMNS = ("question", "A", "B", "C", "D", "answer")

UTILITY = {
    "mmlu": Benchmark(
        kind="utility", licence="MIT", redistributable=True, paper=ARXIV + "2009.03300",
        source=GITHUB + "hendrycks/test",
        parts={
            "test": Part(
                files=("mmlu/mmlu_test/{member}_test.csv", "mmlu/test/{member}_test.csv"), n=14042,
                columns=("question", "answer"), names=_MMLU_COLUMNS,
                hub=Hub(id="cais/mmlu", split="test", config="all"),
                sha256=("befb07be3e9e7516773c1ada8aede0e05f3cdfba2ba4c16c58ed84e27d006aeb",),
            ),
            "dev": Part(
                files=("mmlu/mmlu_dev/{member}_dev.csv", "mmlu/dev/{member}_dev.csv"), n=285,
                columns=("question", "answer"), names=_MMLU_COLUMNS, hub=Hub(id="cais/mmlu", split="dev", config="all"),
                sha256=("0486e40c467623b4305e05524da5715f7c21c03203f2c2960e32a0b210225176",),
            ),
        },
        note="57 subjects. The corrected test set; the first release had 14079 rows.", tasks={"sa_mmlu": 14042},
    ),
    "hellaswag": Benchmark(
        kind="utility", licence="MIT", redistributable=True, paper=ARXIV + "1905.07830",
        source=GITHUB + "rowanz/hellaswag",
        parts={"validation": Part(
            files=("hellaswag/hellaswag_val.jsonl", "hellaswag_subset1000/hellaswag.jsonl"), n=10042,
            columns=("activity_label", "ctx_a", "ctx_b", "endings", "label"),
            hub=Hub(id="Rowan/hellaswag", split="validation"),
            sha256=("79b87117cffba9878961284f233797c5ebeba4193cb48a93eabc4a5a1156cc45",), copy=1000,
        )},
        note="The known hash is that of a subset of 1000.", tasks={"sa_hellaswag": 1000},
    ),
    "arc": Benchmark(
        kind="utility", licence="CC-BY-SA-4.0", redistributable=False, paper=ARXIV + "1803.05457",
        source="https://allenai.org/data/arc",
        parts={
            "challenge": Part(
                files=("arc/ARC-Challenge-Test.jsonl", "arc/ARC-Challenge/ARC-Challenge-Test.jsonl"), n=1172,
                columns=("id", "question", "answerKey"),
                hub=Hub(id="allenai/ai2_arc", split="test", config="ARC-Challenge"),
            ),
            "easy": Part(
                files=("arc/ARC-Easy-Test.jsonl", "arc/ARC-Easy/ARC-Easy-Test.jsonl"), n=2376,
                columns=("id", "question", "answerKey"), hub=Hub(id="allenai/ai2_arc", split="test", config="ARC-Easy"),
            ),
        },
        tasks={"sa_arc_challenge": 1172, "sa_arc_easy": 2376},
    ),
    "truthfulqa": Benchmark(
        kind="utility", licence="Apache-2.0", redistributable=True, paper=ARXIV + "2109.07958",
        source=GITHUB + "sylinrl/TruthfulQA",
        parts={
            "mc": Part(
                files=("truthfulqa/mc_task.json",), n=817, columns=("question", "mc1_targets", "mc2_targets"),
                hub=Hub(id=_TRUTHFULQA, split="validation", config="multiple_choice"),
                sha256=("3b0da647dc7ee212916b1f1ea30efd01f9dd383eb3096774649a0be1b32ebf61",),
            ),
            "generation": Part(
                files=("truthfulqa/TruthfulQA.csv",), n=817, columns=("Category", "Question", "Best Answer"),
                hub=Hub(
                    id=_TRUTHFULQA, split="validation", config="generation",
                    renamed={"category": "Category", "question": "Question", "best_answer": "Best Answer"},
                ),
                sha256=("f9bd9e859cc102cb1f647f1064da7e009be752c416845cf9fa56e6eaae403a7d",),
            ),
        },
        tasks={"sa_truthfulqa_mc1": 817, "sa_truthfulqa_mc2": 817},
    ),
    "gsm8k": Benchmark(
        kind="utility", licence="MIT", redistributable=True, paper=ARXIV + "2110.14168",
        source=GITHUB + "openai/grade-school-math",
        parts={
            "test": Part(
                files=("gsm8k/test.jsonl",), n=1319, columns=("question", "answer"),
                hub=Hub(id="openai/gsm8k", split="test", config="main"),
                sha256=("3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",),
            ),
            "train": Part(
                files=("gsm8k/train.jsonl",), n=7473, columns=("question", "answer"),
                hub=Hub(id="openai/gsm8k", split="train", config="main"),
                sha256=("17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",),
            ),
        },
        tasks={"sa_gsm8k": 1319},
    ),
    "winogrande": Benchmark(
        kind="utility", licence="CC-BY", redistributable=False, paper=ARXIV + "1907.10641",
        source=GITHUB + "allenai/winogrande",
        parts={"dev": Part(
            files=("winogrande/dev.jsonl",), n=1267, columns=("sentence", "option1", "option2", "answer"),
            hub=Hub(id="allenai/winogrande", split="validation", config="winogrande_xl"),
        )},
        tasks={"sa_winogrande": 1267},
    ),
    "wikitext2": Benchmark(
        kind="utility", licence="CC-BY-SA-3.0", redistributable=False, paper=ARXIV + "1609.07843",
        source=GITHUB + "pytorch/examples/tree/main/word_language_model/data/wikitext-2",
        parts={"test": Part(
            files=("wikitext2/test.txt",), n=4358, columns=("text",), names=("text",),
            hub=Hub(id="Salesforce/wikitext", split="test", config="wikitext-2-v1"),
            sha256=("d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",),
        )},
        note="The version whose rare words are <unk>: perplexities are not those of lm-eval's `wikitext`, the raw one.",
        tasks={"sa_wikitext2": 60},
    ),
    "mt_bench": Benchmark(
        kind="utility", licence="Apache-2.0", redistributable=True, paper=ARXIV + "2306.05685",
        source=GITHUB + "lm-sys/FastChat",
        parts={"questions": Part(
            files=("mt_bench/question.jsonl", "mt_bench/mt_bench/question.jsonl"), n=80,
            columns=("question_id", "category", "turns"),
            sha256=("119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",),
        )},
        note="Two-turn questions, without reference answers.",
    ),
}  # fmt: skip
"""Name to data set."""
