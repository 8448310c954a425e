"""What directions are fitted on: anchors and demonstrations."""

from collections.abc import Iterable, Iterator

from sa_lightning.data.benchmark import ARXIV, GITHUB, Benchmark, Hub, Layout, Part, Row, reading


def _halves(rows: Iterable[Row]) -> Iterator[Row]:
    """A row of RepE's set holds two instructions; `label` is true of the harmless one."""
    for number, row in enumerate(rows):
        with reading("repe_harmful_harmless", number):
            pairs = list(zip(row["sentence"], row["label"], strict=True))
        for sentence, harmless in pairs:
            half = "harmless" if harmless else "harmful"
            yield {"id": f"{half}-{number}", "prompt": sentence, "half": half}


DEMONSTRATIONS = {
    "repe_harmful_harmless": Benchmark(
        kind="mixed", licence="none stated", redistributable=False, paper=ARXIV + "2310.01405",
        source="https://huggingface.co/datasets/justinphan3110/harmful_harmless_instructions",
        parts={
            "test": Part(
                files=("repe_harmful_harmless/test-*.parquet",), n=384, columns=("sentence", "label"),
                hub=Hub(id="justinphan3110/harmful_harmless_instructions", split="test"),
                sha256=("330b9468678cb9667196687160d09c5b744bb8ff95b81b7878529641fba8bde6",),
            ),
            "train": Part(
                files=("repe_harmful_harmless/train-*.parquet",), n=128, columns=("sentence", "label"),
                hub=Hub(id="justinphan3110/harmful_harmless_instructions", split="train"),
                sha256=("1e6aaba18e89a653e4add16608951a8b3d9f843661d5f62153cbb931d12ca095",),
            ),
        },
        note="A row holds one harmless instruction (label true) and one harmful one (false).",
        layout=Layout(prompt="prompt", id="id", rows=_halves), tasks={"sa_repe_harmful": 384, "sa_repe_harmless": 384},
    ),
    "dro_llm_safeguard": Benchmark(
        kind="mixed", licence="none stated", redistributable=False, paper=ARXIV + "2401.18018",
        source=GITHUB + "chujiezheng/LLM-Safeguard",
        parts={
            "harmful": Part(
                files=("dro_llm_safeguard/data/custom.txt",), n=100, columns=("prompt",), names=("prompt",),
                sha256=("72963102a9fdb29f65044bc12ac54caab471f2a3f071dcd05cf8f8cb72873129",),
            ),
            "harmless": Part(
                files=("dro_llm_safeguard/data_harmless/custom.txt",), n=100, columns=("prompt",), names=("prompt",),
                sha256=("919fc2d4422dcf940b2560b5378d3f56c30fc60d48d67dcaebdb8f1cabc07848",),
            ),
            "harmless_test": Part(
                files=("dro_llm_safeguard/data_harmless/testset.txt",), n=100, columns=("prompt",), names=("prompt",),
                sha256=("d4ca81cd544de1489eea608e5ddb3093af51d21c0981e0ba351f7ed1c379452a",),
            ),
        },
        note="Harmful and harmless questions of like wording: the anchors of DRO and SCANS.",
        layout=Layout(prompt="prompt"),
        tasks={"sa_dro_harmful": 100, "sa_dro_harmless": 100, "sa_dro_harmless_test": 100},
    ),
    "hh_rlhf_harmless_test": Benchmark(
        kind="pairs", licence="MIT", redistributable=False, paper=ARXIV + "2204.05862",
        source=GITHUB + "anthropics/hh-rlhf",
        parts={"test": Part(
            files=("hh_rlhf_harmless_test/test.jsonl.gz",), n=2312, columns=("chosen", "rejected"),
            hub=Hub(id="Anthropic/hh-rlhf", split="test", data_dir="harmless-base"),
            sha256=("ebfaaed21162a4de120ae85366075b34425e2a6303fac59b99555002f7016f03",),
        )},
        note="Dialogues with two replies. The licence permits copies; harmful completions are kept out.",
        tasks={"sa_hh_harmless": 2308},
    ),
    "safedecoding": Benchmark(
        kind="harmful", licence="MIT", redistributable=True, paper=ARXIV + "2402.08983",
        source=GITHUB + "uw-nsl/SafeDecoding",
        parts={"seed": Part(
            files=("safedecoding/seed_reject.json",), n=36, columns=("prompt", "category"), names=("list",),
            sha256=("ae9a69433801d8ac5852c3fc2fd66ded25a5fed8a9f3412a36b73e2659820b32",),
        )},
        note="Seeds of its refusal demonstrations.",
    ),
    "ibm_activation_steering": Benchmark(
        kind="pairs", licence="Apache-2.0", redistributable=True, paper=ARXIV + "2409.05907",
        source=GITHUB + "IBM/activation-steering",
        parts={
            "condition": Part(
                files=("ibm_activation_steering/condition_harmful.json",), n=4500, columns=("harmful", "harmless"),
                names=("split",), sha256=("3f39bfd7132b51ee74236e14575e1152832e70e7a0dc18a962e75260940a5aca",),
            ),
            "behavior": Part(
                files=("ibm_activation_steering/behavior_refusal.json",), n=200, columns=("kind", "reply"),
                names=("kind", "reply"), sha256=("10924d1653a97f398ca4f94725f55a7287758ee33a45861bb30289f427056ced",),
            ),
        },
        note="Its alpaca.json derives from CC-BY-NC data and is not read.",
    ),
}  # fmt: skip
"""Name to data set."""
