"""Replies with human labels, to check judges with."""

from sa_lightning.data.benchmark import ARXIV, GITHUB, Benchmark, Part

LABELLED = {
    "do_not_answer": Benchmark(
        kind="labelled", licence="CC-BY-NC-SA-4.0", redistributable=False, paper=ARXIV + "2308.13387",
        source=GITHUB + "Libr-AI/do-not-answer",
        parts={"human": Part(
            files=("do_not_answer/Human/annotated_response_{member}.csv",), n=5634,
            columns=("id", "question", "response", "harmful", "action"), copy=3756,
        )},
        note=(
            "Human labels of replies: action 0 refuses … 5 follows. Non-commercial: for checks, nothing is fitted on "
            "it."
        ),
    ),
    "gptfuzz_labelled": Benchmark(
        kind="labelled", licence="MIT", redistributable=False, paper=ARXIV + "2309.10253",
        source=GITHUB + "sherdencooper/GPTFuzz",
        parts={"train": Part(
            files=("gptfuzz_labelled/train.csv",), n=6160, columns=("question", "Response", "label"),
            sha256=("e25fe2a06d2085af260927164364524628c8b5c1dd1bab1b58ddbd917c3f7cb0",),
        )},
        note="Human labels of jailbroken replies. The licence permits copies; harmful completions are kept out.",
    ),
    "xstest_completions": Benchmark(
        kind="labelled", licence="of the models that wrote them", redistributable=False, paper=ARXIV + "2308.01263",
        source=GITHUB + "paul-rottger/exaggerated-safety",
        parts={"human": Part(
            files=(
                "xstest_completions/xstest_v2_completions_{member}.csv",
                "xstest/model_completions/xstest_v2_completions_{member}.csv",
            ),
            n=2250, columns=("id", "type", "prompt", "completion", "final_label"), copy=1350,
        )},
        note="Human labels of replies of five models to XSTest.",
    ),
}  # fmt: skip
"""Name to data set."""
