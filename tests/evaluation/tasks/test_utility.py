"""Offline twins are lm-eval's own tasks: the same documents, asked and scored exactly alike."""

from pathlib import Path

import pytest
from support.invented_data import write_part, write_rows
from support.judged import TASKS

from sa_lightning.data.registry import part, read_rows
from sa_lightning.errors import DataError
from sa_lightning.evaluation.tasks import utility
from sa_lightning.evaluation.tasks.utility import articles, mmlu, preferences

TWINS = {
    "sa_mmlu_anatomy": ("mmlu/default/mmlu_anatomy.yaml", (0, 5)),
    "sa_hellaswag": ("hellaswag/hellaswag.yaml", (0,)),
    "sa_arc_easy": ("arc/arc_easy.yaml", (0,)),
    "sa_arc_challenge": ("arc/arc_challenge.yaml", (0,)),
    "sa_truthfulqa_mc1": ("truthfulqa/truthfulqa_mc1.yaml", (0,)),
    "sa_truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2.yaml", (0,)),
    "sa_gsm8k": ("gsm8k/gsm8k.yaml", (5, 8)),
    "sa_winogrande": ("winogrande/default.yaml", (0,)),
    "sa_wikitext2": ("wikitext/wikitext.yaml", (0,)),
}
OURS = ["id", "prompt", "kind", "attack", "category", "cluster", "title"]


@pytest.mark.parametrize(("name", "shots"), [(name, n) for name, (_, shots) in TWINS.items() for n in shots])
def test_a_twin_asks_and_scores_exactly_as_lm_evals_own_task(name, shots, data):
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    ours = TaskManager(include_path=str(TASKS), include_defaults=False).load([name])["tasks"][name]
    found = load_yaml(Path(lm_eval.tasks.__file__).parent / TWINS[name][0], resolve_func=True)
    bare = {
        split: part.select_columns([c for c in part.column_names if c not in OURS or (c == "id" and "arc" in name)])
        for split, part in ours.dataset.items()
    }
    unread = {key: None for key in ("training_split", "test_split", "validation_split") if found.get(key) not in bare}
    theirs = ConfigurableTask(config={**found, **unread, "custom_dataset": lambda **_: bare})
    for task in (ours, theirs):
        task.set_config(key="num_fewshot", value=shots)
        task.set_fewshot_seed(1234)
        task.build_all_requests(limit=None, rank=0, world_size=1)
    asked = [[(r.doc_id, r.request_type, _plain(r.args)) for r in task.instances] for task in (ours, theirs)]
    assert asked[0] == asked[1]
    assert len(asked[0]) >= 2
    assert ours.aggregation().keys() == theirs.aggregation().keys()
    assert ours.higher_is_better() == theirs.higher_is_better()
    assert [f.name for f in ours._filters] == [f.name for f in theirs._filters]
    doc, bare_doc = list(ours.eval_docs)[1], list(theirs.eval_docs)[1]
    assert ours.doc_to_target(doc) == theirs.doc_to_target(bare_doc)
    count = sum(request[0] == 1 for request in asked[0])
    replies = {"generate_until": ["It is 1.\n#### 1"], "loglikelihood_rolling": [-7.0]}
    results = replies.get(ours.OUTPUT_TYPE, [(-1.0 - k / 3, False) for k in range(count)])
    assert ours.process_results(doc, results) == theirs.process_results(bare_doc, results)


def _plain(arguments):
    """What is asked; a stated number of new tokens that is lm-eval's default is no difference."""
    return tuple({"max_gen_toks": 256, **a} if isinstance(a, dict) else a for a in arguments)


def test_the_hubs_layout_and_the_local_one_give_the_same_documents(tmp_path, monkeypatch, data):
    from datasets import Dataset

    local = {name: getattr(utility, name)(dataset=name, parts=parts) for name, parts in HUB_ROWS_PARTS.items()}
    local["mmlu"] = mmlu(subject="anatomy")
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path))
    for name in HUB_ROWS:
        monkeypatch.setattr("datasets.load_dataset", lambda *a, name=name, **k: Dataset.from_list(HUB_ROWS[name]))
        other = (
            mmlu(subject="anatomy")
            if name == "mmlu"
            else getattr(utility, name)(dataset=name, parts=HUB_ROWS_PARTS[name])
        )
        split = next(iter(other))
        assert other[split].to_list() == local[name][split].to_list()[:4], name


HUB_ROWS_PARTS = {"arc": ["easy"], "truthfulqa": ["mc"], "wikitext2": ["test"]}
HUB_ROWS = {
    "arc": [
        {
            "id": f"id {i}",
            "question": f"How many windows are {i} windows?",
            "choices": {"text": ["0", "1", "2", "3"], "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD"[i],
        }
        for i in range(4)
    ],
    "truthfulqa": [
        {
            "question": f"question {i}",
            "mc1_targets": {"choices": [f"yes {i}", "no"], "labels": [1, 0]},
            "mc2_targets": {"choices": [f"yes {i}", "indeed", "no"], "labels": [1, 1, 0]},
        }
        for i in range(4)
    ],
    "mmlu": [
        {
            "question": f"question {i} anatomy",
            "subject": "anatomy",
            "choices": [f"{letter} {i} anatomy" for letter in "ABCD"],
            "answer": i,
        }
        for i in range(4)
    ],
    "wikitext2": [
        {"text": line}
        for i in (0, 4)
        for line in ("", f" = Cake {i + 1} = \n", "", " A cake , baked . \n")
    ],
}  # fmt: skip


def test_preferences_are_the_dialogue_both_share_and_two_replies_the_better_first(tmp_path, monkeypatch):
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path))
    asked = "\n\nHuman: Cake?\n\nAssistant: Which?\n\nHuman: Plum.\n\nAssistant:"
    rows = [
        {"chosen": f"{asked} Bake it.", "rejected": f"{asked} Buy it."},
        {"chosen": f"{asked} ", "rejected": f"{asked} Buy it."},
        {"chosen": f"{asked} Bake it.", "rejected": f"{asked}"},
        # The two part before the last turn: what either says from there on is its reply.
        {
            "chosen": "\n\nHuman: Pie?\n\nAssistant: Bake.",
            "rejected": "\n\nHuman: Pie?\n\nAssistant: Buy.\n\nHuman: Why?",
        },
    ]
    (tmp_path / "hh_rlhf_harmless_test").mkdir()
    write_rows(tmp_path / "hh_rlhf_harmless_test" / "test.jsonl.gz", rows)
    found = preferences(dataset="hh_rlhf_harmless_test")["test"]
    assert found["id"] == ["0", "3"]
    assert found["dialogue"] == [asked.strip(), "Human: Pie?\n\nAssistant:"]
    assert found["choices"] == [["Bake it.", "Buy it."], ["Bake.", "Buy.\n\nHuman: Why?"]]


def test_articles_begin_at_headings_with_blank_lines_around_them():
    text = [
        "",
        " = Cake = ",
        "",
        " Baked . ",
        "",
        " = = Oven = = ",
        "",
        " Hot . ",
        " = 1 and 2 = ",
        " More . ",
        "",
        " = Pie = ",
        "",
    ]
    assert list(articles(text)) == [
        ("Cake", " = Cake = \n\n Baked . \n\n = = Oven = = \n\n Hot . \n = 1 and 2 = \n More . \n\n"),
        ("Pie", " = Pie = \n\n"),
    ]
    assert list(articles(["loose", "", " = Cake = ", ""])) == [("", "loose\n\n"), ("Cake", " = Cake = \n\n")]
    assert list(articles([])) == list(articles(["", " "])) == []


MALFORMED = [
    ("arc", "easy", "arc", {"question": "Cake?"}, "it lacks 'choices'"),
    ("arc", "easy", "arc", {"question": {"stem": "Cake?"}}, "it lacks 'choices'"),
    ("arc", "easy", "arc", {"question": {"stem": "Cake?", "choices": []}}, "no choices"),
    ("arc", "easy", "arc", {"answerKey": "E"}, "'E', not one of A, B, C, D"),
    ("truthfulqa", "mc", "truthfulqa", {"mc1_targets": []}, "answers are no object"),
    ("truthfulqa", "mc", "truthfulqa", {"mc1_targets": {}}, "the first a right one"),
    ("truthfulqa", "mc", "truthfulqa", {"mc1_targets": {"no": 0, "yes": 1}}, "the first a right one"),
    ("truthfulqa", "mc", "truthfulqa", {"mc2_targets": {"yes": 1, "indeed": 1}}, "some wrong"),
    ("truthfulqa", "mc", "truthfulqa", {"mc2_targets": {"yes": 1, "": 0}}, "an empty one"),
    ("hellaswag", "validation", "hellaswag", {"endings": "bakes"}, "no choices"),
    ("hellaswag", "validation", "hellaswag", {"endings": ["bakes", 1]}, "int where a text is expected"),
    ("hellaswag", "validation", "hellaswag", {"label": 4}, "'4', not one of 0, 1, 2, 3"),
    ("hellaswag", "validation", "hellaswag", {"label": ""}, "'', not one of"),
    ("winogrande", "dev", "winogrande", {"answer": "3"}, "'3', not one of 1, 2"),
    ("winogrande", "dev", "winogrande", {"sentence": "A cake."}, "no _ to fill"),
    ("hh_rlhf_harmless_test", "test", "preferences", {"chosen": "Cake."}, "share no turn"),
    ("hh_rlhf_harmless_test", "test", "preferences", {"chosen": ["Cake."]}, "list where a text"),
    ("gsm8k", "train", "gsm8k", {"answer": 3}, "int where a text"),
    ("mmlu", "test", "mmlu", {"answer": "E"}, "'E', not one of A, B, C, D"),
    ("mmlu", "test", "mmlu", {"answer": ""}, "'', not one of A, B, C, D"),
]


@pytest.mark.parametrize(("name", "which", "function", "change", "reason"), MALFORMED)
def test_a_malformed_row_is_named_and_refused(name, which, function, change, reason, tmp_path, monkeypatch):
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path))
    if name == "gsm8k":
        write_part(tmp_path, name, part(name, "test"))
    written = write_part(tmp_path, name, part(name, which))
    path = next((path for path in written if "anatomy" in path.name), written[0])
    rows = [dict(row) for row in read_rows(name, which, member="anatomy" if name == "mmlu" else None)]
    rows[2] |= change
    write_rows(path, rows, part(name, which).names)
    with pytest.raises(DataError, match=rf"^Row 3 of {name}( \(.*\))? cannot be read: .*{reason}"):
        getattr(utility, function)(dataset=name, parts=[which], subject="anatomy")


def test_documents_that_share_an_id_are_refused_before_they_are_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path))
    (path,) = write_part(tmp_path, "arc", part("arc", "easy"))
    rows = [dict(row) for row in read_rows("arc", "easy")]
    rows[5]["id"] = rows[1]["id"]
    write_rows(path, rows)
    with pytest.raises(DataError, match="arc has 2 documents with the id 'id 1'"):
        utility.arc(dataset="arc", parts=["easy"])


def test_a_set_of_which_nothing_can_be_asked_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SA_DATA_DIR", str(tmp_path))
    (tmp_path / "hh_rlhf_harmless_test").mkdir()
    empty = "\n\nHuman: Cake?\n\nAssistant:"
    write_rows(tmp_path / "hh_rlhf_harmless_test" / "test.jsonl.gz", [{"chosen": empty, "rejected": f"{empty} Buy."}])
    with pytest.raises(DataError, match="no rows that can be asked"):
        preferences(dataset="hh_rlhf_harmless_test")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"dataset": "nosuch"}, "There is no data set 'nosuch'"),
        ({"dataset": None}, "`dataset` is None"),
        ({"parts": ["challenge", "easy"]}, "not a list of one name"),
        ({"parts": "easy"}, "not a list of one name"),
        ({"parts": ["hard"]}, "arc has no part 'hard'"),
        ({"dataset": "advbench"}, "Row 1 of advbench cannot be read: it lacks 'question'"),
    ],
)
def test_metadata_that_name_what_is_not_there_are_refused(metadata, said, data):
    with pytest.raises(DataError, match=said):
        utility.arc(**({"dataset": "arc"} | metadata))
