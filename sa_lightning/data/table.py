"""The table of data sets: one row each. None of them comes with this package.

Hashes are those of the copies that this project was tested with, in the layout of their authors. "Redistributable"
is a reading of the stated licences, not legal advice; sets with harmful completions are kept out in any case.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["harmful", "harmless", "borderline", "mixed", "utility", "pairs", "labelled"]


@dataclass(frozen=True)
class Hub:
    """Where a part lies on the Hugging Face Hub.

    Args:
        id: Data set.
        split: Its split.
        config: Its configuration.
        data_dir: Its directory, where configurations are directories.
        revision: Commit; `main` where none has been tested, and it moves.
        renamed: The Hub's name of a column to the file's.
        gated: Whether one must log in.
    """

    id: str
    split: str
    config: str | None = None
    data_dir: str | None = None
    revision: str = "main"
    renamed: Mapping[str, str] = field(default_factory=dict)
    gated: bool = False


@dataclass(frozen=True)
class Part:
    """A split of a data set, or one of its files.

    Args:
        files: Layouts that are looked for below `$SA_DATA_DIR`, in this order; `{member}` is one of several files.
        n: Rows that its authors published.
        columns: What every row must have.
        names: Names of columns where the file has none.
        hub: Where else it comes from.
        sha256: Of copies known to us; of several files, of their `sha256sum` listing.
    """

    files: tuple[str, ...]
    n: int
    columns: tuple[str, ...]
    names: tuple[str, ...] = ()
    hub: Hub | None = None
    sha256: tuple[str, ...] = ()

    @property
    def has_members(self) -> bool:
        """Whether it has several files."""
        return "{member}" in self.files[0]


@dataclass(frozen=True)
class Entry:
    """A data set.

    Args:
        kind: What its prompts are, or `pairs` (demonstrations), `labelled` (replies with human labels).
        licence: As stated by its authors.
        redistributable: Whether the licence lets a package carry it.
        paper: Where it was published.
        source: Where its files lie, in the layout that is read.
        parts: Name to part; the first is the main one.
        note: What a reader of its numbers should know.
        by_hand: The second way to get a set that cannot be loaded from the Hub.
    """

    kind: Kind
    licence: str
    redistributable: bool
    paper: str
    source: str
    parts: Mapping[str, Part]
    note: str = ""
    by_hand: str = "it is not on the Hub in this form: clone that repository, and copy the file."


_ARXIV = "https://arxiv.org/abs/"
_GITHUB = "https://github.com/"

_TRUTHFULQA = "truthfulqa/truthful_qa"
_MMLU_COLUMNS = ("question", "A", "B", "C", "D", "answer")
_HARMBENCH_COLUMNS = ("Behavior", "FunctionalCategory", "SemanticCategory", "ContextString", "BehaviorID")

DATASETS: dict[str, Entry] = {
    # Requests for harm.
    "advbench": Entry(
        "harmful", "MIT", True, _ARXIV + "2307.15043", _GITHUB + "llm-attacks/llm-attacks",
        {"behaviors": Part(
            ("advbench/harmful_behaviors.csv",), 520, ("goal",),
            hub=Hub("walledai/AdvBench", "train", renamed={"prompt": "goal"}, gated=True),
            sha256=("6cd1a5c63c07610d7eb67307772ee5606017ee950b5770ab288a2c487489d3e1",),
        )},
        "Many near-duplicates: intervals are too narrow.",
    ),
    "dangerousqa": Entry(
        "harmful", "MIT", True, _ARXIV + "2212.08061", _GITHUB + "SALT-NLP/chain-of-thought-bias",
        {"questions": Part(
            ("dangerousqa/toxic_outs.json", "dangerousqa_original/toxic_outs.json", "red_instruct/dangerousqa.json"),
            200, ("question",), ("question",),
            sha256=("b40b0193d063cb5d742e6d0e070dde119e0291619830c65653ca19bdc84fdd10",),
        )},
        "Also called HarmfulQ.",
    ),
    "harmfulqa": Entry(
        "harmful", "Apache-2.0", True, _ARXIV + "2308.09662", _GITHUB + "declare-lab/red-instruct",
        {"questions": Part(
            ("harmfulqa/harmfulqa.json", "red_instruct/harmfulqa.json"), 1960, ("topic", "question"),
            ("topic", "subtopic", "question"),
            Hub("declare-lab/HarmfulQA", "train", revision="6f1a78aed47d16c0695e4595d0159abc38197bfd"),
            ("e04c1f3c48800ea84f954298e2a74f27e391069e037d60a22c2727eaa22f2cf8",),
        )},
        "10 topics; the paper's number is the mean over topics. 22 questions occur twice.",
    ),
    "catqa": Entry(
        "harmful", "Apache-2.0", True, _ARXIV + "2402.11746", _GITHUB + "declare-lab/red-instruct",
        {"english": Part(
            ("catqa/catqa_english.json", "red_instruct/catqa_english.json"), 550, ("Category", "Question"),
            ("Category", "Subcategory", "Question"), Hub("declare-lab/CategoricalHarmfulQA", "en"),
            ("40efd4e205e26d6e840f30e6d8540f95f2777453af052319e42e74d10bd1992a",),
        )},
    ),
    "nichehazardqa": Entry(
        "harmful", "Apache-2.0", True, _ARXIV + "2401.10647",
        "https://huggingface.co/datasets/SoftMINER-Group/NicheHazardQA",
        {"questions": Part(
            ("nichehazardqa/NICHEHAZARDQA.json",), 388, ("Domain", "Question"), ("Domain", "Question"),
            Hub("SoftMINER-Group/NicheHazardQA", "train", revision="114a05b168027c3190dc4e2f3b558fe48e6092c8"),
        )},
        "6 topics; the paper's number is the mean over topics.",
    ),
    "hex_phi": Entry(
        "harmful", "HEx-PHI licence agreement", False, _ARXIV + "2310.03693",
        "https://huggingface.co/datasets/LLM-Tuning-Safety/HEx-PHI",
        {"prompts": Part(("hex_phi/{member}.csv",), 330, ("prompt",), ("prompt",))},
        "Gated: its agreement forbids copies, so every user asks for access. 11 categories of 30, later 10.",
        "accept its agreement on that page, then `hf download LLM-Tuning-Safety/HEx-PHI --repo-type dataset "
        "--include '*.csv' --local-dir {directory}/hex_phi`.",
    ),
    "harmbench": Entry(
        "harmful", "MIT", True, _ARXIV + "2402.04249", _GITHUB + "centerforaisafety/HarmBench",
        {
            "test": Part(
                ("harmbench/harmbench_behaviors_text_test.csv",), 320, _HARMBENCH_COLUMNS,
                hub=Hub("swiss-ai/harmbench", "test", "DirectRequest"),
                sha256=("bf2bfd36f765d97cbbe27a3191b492ea76b1771e9116af80a587647831de75ce",),
            ),
            "val": Part(
                ("harmbench/harmbench_behaviors_text_val.csv",), 80, _HARMBENCH_COLUMNS,
                hub=Hub("swiss-ai/harmbench", "val", "DirectRequest"),
                sha256=("7bfaaa5e2b9b95002c89e2d33c019f58e9e8496e2fc65d368f1eeb8179e69534",),
            ),
            "all": Part(
                ("harmbench/harmbench_behaviors_text_all.csv",), 400, _HARMBENCH_COLUMNS,
                sha256=("2745611872be3b2eab141e39bb328b8c1140dc3cd8d0a49da6174260d9ccbfb9",),
            ),
        },
    ),
    "jailbreakbench": Entry(
        "harmful", "MIT", True, _ARXIV + "2404.01318", _GITHUB + "JailbreakBench/jailbreakbench",
        {"harmful": Part(
            ("jailbreakbench/behaviors.csv",), 100, ("Goal", "Category"),
            hub=Hub(
                "JailbreakBench/JBB-Behaviors", "harmful", "behaviors",
                revision="886acc352a31533ffbcf4ef22c744658688086fc",
            ),
            sha256=("45e9a8923b28f547bb372fbaa9af7df8b38c818a80ae50c3bab97704197ff516",),
        )},
    ),
    "strongreject": Entry(
        "harmful", "MIT (prompts taken from other sets keep theirs)", True, _ARXIV + "2402.10260",
        _GITHUB + "alexandrasouly/strongreject",
        {"prompts": Part(
            ("strongreject/strongreject_dataset.csv",), 313, ("category", "forbidden_prompt"),
            hub=Hub("walledai/StrongREJECT", "train", renamed={"prompt": "forbidden_prompt"}, gated=True),
            sha256=("4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381",),
        )},
        "25 prompts come from AdvBench, 12 from MaliciousInstruct, 11 from DangerousQA.",
    ),
    "malicious_instruct": Entry(
        "harmful", "none stated", False, _ARXIV + "2310.06987", _GITHUB + "Princeton-SysML/Jailbreak_LLM",
        {"prompts": Part(
            ("malicious_instruct/MaliciousInstruct.txt",), 100, ("prompt",), ("prompt",),
            Hub("walledai/MaliciousInstruct", "train", gated=True),
            ("a64d69dd1004aac4a23aaff3748fb8f17161893f74db36f45b8bc849eb1bcce5",),
        )},
    ),
    "simplesafetytests": Entry(
        "harmful", "CC-BY-4.0", True, _ARXIV + "2311.08370", _GITHUB + "bertiev/SimpleSafetyTests",
        {"test": Part(
            ("simplesafetytests/SimpleSafetyTests - test cases.csv",), 100, ("id", "harm_area", "prompts_final"),
            hub=Hub(
                "Bertievidgen/SimpleSafetyTests", "test", revision="98223c5d8c4059c8f4d8fe2fec8720ee8a20d3c5",
                renamed={"prompt": "prompts_final"},
            ),
            sha256=("6d95a1301e0d0f3a3c4cf5392f4afff11ad6e3066f95d23aaa138d44aedf986c",),
        )},
    ),
    # Prompts that only look unsafe, and ordinary ones.
    "xstest": Entry(
        "mixed", "CC-BY-4.0", True, _ARXIV + "2308.01263", _GITHUB + "paul-rottger/exaggerated-safety",
        {"prompts": Part(
            ("xstest/xstest_prompts.csv",), 450, ("id", "prompt", "type", "label"),
            hub=Hub("Paul/XSTest", "train"),
            sha256=("11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",),
        )},
        "250 safe prompts that look unsafe, 200 unsafe contrasts.",
    ),
    "oktest": Entry(
        "borderline", "none stated", False, _ARXIV + "2401.17633", _GITHUB + "InvokerStark/OverKill",
        {"prompts": Part(
            ("oktest/OKTest.csv",), 300, ("prompt",),
            sha256=("1be3e8d3fe6b45a170653da63c8cf70dbf97508a48735e65db0713a44e158860",),
        )},
    ),
    "oktest_heldout": Entry(
        "borderline", "none stated", False, _ARXIV + "2401.17633", _GITHUB + "InvokerStark/OverKill",
        {"prompts": Part(
            ("oktest_heldout/OKTest_heldout.csv",), 50, ("prompt",),
            sha256=("af0abf57762023b0302b25107b82de15e6fb2340709b04762fb459e10c6960f7",),
        )},
        "To choose settings on. 10 of its questions are in OKTest too.",
    ),
    "or_bench_hard": Entry(
        "borderline", "CC-BY-4.0 (as its card says)", True, _ARXIV + "2405.20947",
        "https://huggingface.co/datasets/bench-llm/or-bench",
        {"hard": Part(
            ("or_bench_hard/or-bench-hard-1k.csv",), 1319, ("prompt", "category"),
            hub=Hub("bench-llm/or-bench", "train", "or-bench-hard-1k"),
            sha256=("a6e2f1166416efe5901f3bb05c47dc92ab3aca3acfe143693d38b8057d841e6d",),
        )},
    ),
    "jbb_benign": Entry(
        "borderline", "MIT", True, _ARXIV + "2404.01318", "https://huggingface.co/datasets/JailbreakBench/JBB-Behaviors",
        {"benign": Part(
            ("jbb_benign/goals.txt",), 100, ("Goal",), ("Goal",),
            Hub(
                "JailbreakBench/JBB-Behaviors", "benign", "behaviors",
                revision="886acc352a31533ffbcf4ef22c744658688086fc",
            ),
            ("2abff9faf3475e9e2df158ed9a1a849645f9fa2ef65c241a541619c4347472ef",),
        )},
        "The local layout is a goal a line; categories are only on the Hub.",
    ),
    "coconot": Entry(
        "borderline", "MIT (repository), ODC-BY (Hub)", True, _ARXIV + "2407.12043", _GITHUB + "allenai/noncompliance",
        {
            "contrast": Part(
                ("coconot/coconot_contrast_eval.jsonl",), 379, ("id", "category", "prompt"),
                hub=Hub("allenai/coconot", "test", "contrast"),
                sha256=("76dccec176743ed656279f2969c51abb68bda94e5fda8397e34ff5638e021d86",),
            ),
            "original": Part(
                ("coconot/coconot_eval.jsonl",), 1001, ("id", "category", "prompt"),
                hub=Hub("allenai/coconot", "test", "original"),
                sha256=("df72466c477207f14a96c5940c3ef3b93b1b50c0d1e7ed7c5fb5dc6d6140c077",),
            ),
        },
        "The contrast set should be complied with; the original set should not, for reasons that are not all safety.",
    ),
    "nointentedit": Entry(
        "harmless", "none stated", False, _ARXIV + "2406.11801", _GITHUB + "declare-lab/safety-arithmetic",
        {"edits": Part(
            ("nointentedit/Unintentional_Edit_Instance.xlsx",), 43, ("Cluster", "Question", "Answer"),
            sha256=("6612e09ff14298ed1ac77a58522259a636cca33f99672034d3074573b4cb18de",),
        )},
        "Harmless facts that models are edited with; harm after such edits is measured on the other sets.",
    ),
    # Anchors and demonstrations.
    "repe_harmful_harmless": Entry(
        "mixed", "none stated", False, _ARXIV + "2310.01405",
        "https://huggingface.co/datasets/justinphan3110/harmful_harmless_instructions",
        {
            "test": Part(
                ("repe_harmful_harmless/test-*.parquet",), 384, ("sentence", "label"),
                hub=Hub("justinphan3110/harmful_harmless_instructions", "test"),
                sha256=("330b9468678cb9667196687160d09c5b744bb8ff95b81b7878529641fba8bde6",),
            ),
            "train": Part(
                ("repe_harmful_harmless/train-*.parquet",), 128, ("sentence", "label"),
                hub=Hub("justinphan3110/harmful_harmless_instructions", "train"),
                sha256=("1e6aaba18e89a653e4add16608951a8b3d9f843661d5f62153cbb931d12ca095",),
            ),
        },
        "A row holds one harmless instruction (label true) and one harmful one (false).",
    ),
    "dro_llm_safeguard": Entry(
        "mixed", "none stated", False, _ARXIV + "2401.18018", _GITHUB + "chujiezheng/LLM-Safeguard",
        {
            "harmful": Part(
                ("dro_llm_safeguard/data/custom.txt",), 100, ("prompt",), ("prompt",),
                sha256=("72963102a9fdb29f65044bc12ac54caab471f2a3f071dcd05cf8f8cb72873129",),
            ),
            "harmless": Part(
                ("dro_llm_safeguard/data_harmless/custom.txt",), 100, ("prompt",), ("prompt",),
                sha256=("919fc2d4422dcf940b2560b5378d3f56c30fc60d48d67dcaebdb8f1cabc07848",),
            ),
            "harmless_test": Part(
                ("dro_llm_safeguard/data_harmless/testset.txt",), 100, ("prompt",), ("prompt",),
                sha256=("d4ca81cd544de1489eea608e5ddb3093af51d21c0981e0ba351f7ed1c379452a",),
            ),
        },
        "Harmful and harmless questions of like wording: the anchors of DRO and SCANS.",
    ),
    "hh_rlhf_harmless_test": Entry(
        "pairs", "MIT", False, _ARXIV + "2204.05862", _GITHUB + "anthropics/hh-rlhf",
        {"test": Part(
            ("hh_rlhf_harmless_test/test.jsonl.gz",), 2312, ("chosen", "rejected"),
            hub=Hub("Anthropic/hh-rlhf", "test", data_dir="harmless-base"),
            sha256=("ebfaaed21162a4de120ae85366075b34425e2a6303fac59b99555002f7016f03",),
        )},
        "Dialogues with two replies. The licence permits copies; harmful completions are kept out.",
    ),
    "safedecoding": Entry(
        "harmful", "MIT", True, _ARXIV + "2402.08983", _GITHUB + "uw-nsl/SafeDecoding",
        {"seed": Part(
            ("safedecoding/seed_reject.json",), 36, ("prompt", "category"), ("list",),
            sha256=("ae9a69433801d8ac5852c3fc2fd66ded25a5fed8a9f3412a36b73e2659820b32",),
        )},
        "Seeds of its refusal demonstrations.",
    ),
    "ibm_activation_steering": Entry(
        "pairs", "Apache-2.0", True, _ARXIV + "2409.05907", _GITHUB + "IBM/activation-steering",
        {
            "condition": Part(
                ("ibm_activation_steering/condition_harmful.json",), 4500, ("harmful", "harmless"), ("split",),
                sha256=("3f39bfd7132b51ee74236e14575e1152832e70e7a0dc18a962e75260940a5aca",),
            ),
            "behavior": Part(
                ("ibm_activation_steering/behavior_refusal.json",), 200, ("kind", "reply"), ("kind", "reply"),
                sha256=("10924d1653a97f398ca4f94725f55a7287758ee33a45861bb30289f427056ced",),
            ),
        },
        "Its alpaca.json derives from CC-BY-NC data and is not read.",
    ),
    # Replies with human labels, to check judges with.
    "do_not_answer": Entry(
        "labelled", "CC-BY-NC-SA-4.0", False, _ARXIV + "2308.13387", _GITHUB + "Libr-AI/do-not-answer",
        {"human": Part(
            ("do_not_answer/Human/annotated_response_{member}.csv",), 5634,
            ("id", "question", "response", "harmful", "action"),
        )},
        "Human labels of replies: action 0 refuses … 5 follows. Non-commercial: for checks, nothing is fitted on it.",
    ),
    "gptfuzz_labelled": Entry(
        "labelled", "MIT", False, _ARXIV + "2309.10253", _GITHUB + "sherdencooper/GPTFuzz",
        {"train": Part(
            ("gptfuzz_labelled/train.csv",), 6160, ("question", "Response", "label"),
            sha256=("e25fe2a06d2085af260927164364524628c8b5c1dd1bab1b58ddbd917c3f7cb0",),
        )},
        "Human labels of jailbroken replies. The licence permits copies; harmful completions are kept out.",
    ),
    "xstest_completions": Entry(
        "labelled", "of the models that wrote them", False, _ARXIV + "2308.01263",
        _GITHUB + "paul-rottger/exaggerated-safety",
        {"human": Part(
            (
                "xstest_completions/xstest_v2_completions_{member}.csv",
                "xstest/model_completions/xstest_v2_completions_{member}.csv",
            ),
            2250, ("id", "type", "prompt", "completion", "final_label"),
        )},
        "Human labels of replies of five models to XSTest.",
    ),
    # General ability.
    "mmlu": Entry(
        "utility", "MIT", True, _ARXIV + "2009.03300", _GITHUB + "hendrycks/test",
        {
            "test": Part(
                ("mmlu/mmlu_test/{member}_test.csv", "mmlu/test/{member}_test.csv"), 14042, ("question", "answer"),
                _MMLU_COLUMNS, Hub("cais/mmlu", "test", "all"),
                ("befb07be3e9e7516773c1ada8aede0e05f3cdfba2ba4c16c58ed84e27d006aeb",),
            ),
            "dev": Part(
                ("mmlu/mmlu_dev/{member}_dev.csv", "mmlu/dev/{member}_dev.csv"), 285, ("question", "answer"),
                _MMLU_COLUMNS, Hub("cais/mmlu", "dev", "all"),
                ("0486e40c467623b4305e05524da5715f7c21c03203f2c2960e32a0b210225176",),
            ),
        },
        "57 subjects. The corrected test set; the first release had 14079 rows.",
    ),
    "hellaswag": Entry(
        "utility", "MIT", True, _ARXIV + "1905.07830", _GITHUB + "rowanz/hellaswag",
        {"validation": Part(
            ("hellaswag/hellaswag_val.jsonl", "hellaswag_subset1000/hellaswag.jsonl"), 10042,
            ("activity_label", "ctx_a", "ctx_b", "endings", "label"), hub=Hub("Rowan/hellaswag", "validation"),
            sha256=("79b87117cffba9878961284f233797c5ebeba4193cb48a93eabc4a5a1156cc45",),
        )},
        "The known hash is that of a subset of 1000.",
    ),
    "arc": Entry(
        "utility", "CC-BY-SA-4.0", False, _ARXIV + "1803.05457", "https://allenai.org/data/arc",
        {
            "challenge": Part(
                ("arc/ARC-Challenge-Test.jsonl", "arc/ARC-Challenge/ARC-Challenge-Test.jsonl"), 1172,
                ("id", "question", "answerKey"), hub=Hub("allenai/ai2_arc", "test", "ARC-Challenge"),
            ),
            "easy": Part(
                ("arc/ARC-Easy-Test.jsonl", "arc/ARC-Easy/ARC-Easy-Test.jsonl"), 2376,
                ("id", "question", "answerKey"), hub=Hub("allenai/ai2_arc", "test", "ARC-Easy"),
            ),
        },
    ),
    "truthfulqa": Entry(
        "utility", "Apache-2.0", True, _ARXIV + "2109.07958", _GITHUB + "sylinrl/TruthfulQA",
        {
            "mc": Part(
                ("truthfulqa/mc_task.json",), 817, ("question", "mc1_targets", "mc2_targets"),
                hub=Hub(_TRUTHFULQA, "validation", "multiple_choice"),
                sha256=("3b0da647dc7ee212916b1f1ea30efd01f9dd383eb3096774649a0be1b32ebf61",),
            ),
            "generation": Part(
                ("truthfulqa/TruthfulQA.csv",), 817, ("Category", "Question", "Best Answer"),
                hub=Hub(
                    _TRUTHFULQA, "validation", "generation",
                    renamed={"category": "Category", "question": "Question", "best_answer": "Best Answer"},
                ),
                sha256=("f9bd9e859cc102cb1f647f1064da7e009be752c416845cf9fa56e6eaae403a7d",),
            ),
        },
    ),
    "gsm8k": Entry(
        "utility", "MIT", True, _ARXIV + "2110.14168", _GITHUB + "openai/grade-school-math",
        {
            "test": Part(
                ("gsm8k/test.jsonl",), 1319, ("question", "answer"), hub=Hub("openai/gsm8k", "test", "main"),
                sha256=("3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",),
            ),
            "train": Part(
                ("gsm8k/train.jsonl",), 7473, ("question", "answer"), hub=Hub("openai/gsm8k", "train", "main"),
                sha256=("17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",),
            ),
        },
    ),
    "winogrande": Entry(
        "utility", "CC-BY", False, _ARXIV + "1907.10641", _GITHUB + "allenai/winogrande",
        {"dev": Part(
            ("winogrande/dev.jsonl",), 1267, ("sentence", "option1", "option2", "answer"),
            hub=Hub("allenai/winogrande", "validation", "winogrande_xl"),
        )},
    ),
    "wikitext2": Entry(
        "utility", "CC-BY-SA-3.0", False, _ARXIV + "1609.07843",
        _GITHUB + "pytorch/examples/tree/main/word_language_model/data/wikitext-2",
        {"test": Part(
            ("wikitext2/test.txt",), 4358, ("text",), ("text",),
            Hub("Salesforce/wikitext", "test", "wikitext-2-v1"),
            ("d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",),
        )},
        "The version whose rare words are <unk>: perplexities are not those of lm-eval's `wikitext`, the raw one.",
    ),
    "mt_bench": Entry(
        "utility", "Apache-2.0", True, _ARXIV + "2306.05685", _GITHUB + "lm-sys/FastChat",
        {"questions": Part(
            ("mt_bench/question.jsonl", "mt_bench/mt_bench/question.jsonl"), 80, ("question_id", "category", "turns"),
            sha256=("119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",),
        )},
        "Two-turn questions, without reference answers.",
    ),
}  # fmt: skip
"""Name, as of its directory in `$SA_DATA_DIR`, to data set."""
