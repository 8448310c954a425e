import gzip
import json
import re

import pytest
from support.json_lines import write

from sa_lightning.errors import DataError
from sa_lightning.steering import read_demonstrations

ROW = {"question": "how ?", "safe": "no .", "unsafe": "so ."}


def test_all_formats_give_the_same_pairs(tmp_path):
    transcript = "\n\nHuman: how ?\n\nAssistant: "
    chosen = {"chosen": transcript + "no .", "rejected": transcript + "so ."}
    lists = {
        "chosen": [{"role": "user", "content": "how ?"}, {"role": "assistant", "content": "no ."}],
        "rejected": [{"role": "user", "content": "how ?"}, {"role": "assistant", "content": "so ."}],
    }
    files = [write(tmp_path / f"{index}.jsonl", [row]) for index, row in enumerate((ROW, chosen, lists))]
    (tmp_path / "a.csv").write_text('question,safe,unsafe\nhow ?,no .,"so ."\n')
    (tmp_path / "a.json").write_text(json.dumps([ROW]))
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps(ROW) + "\n\n")
    for file in [*files, tmp_path / "a.csv", tmp_path / "a.json", tmp_path / "a.jsonl.gz"]:
        (pair,), skipped = read_demonstrations(file)
        assert pair.messages("safe") == [
            {"role": "user", "content": "how ?"},
            {"role": "assistant", "content": "no ."},
        ], file
        assert pair.unsafe == "so ."
        assert skipped == 0


def test_dialogues_keep_the_turns_before_the_answer(tmp_path):
    shared = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: "
    file = write(tmp_path / "d.jsonl", [{"chosen": shared + "no", "rejected": shared + "yes"}])
    (pair,), _ = read_demonstrations(file)
    assert [turn["content"] for turn in pair.conversation] == ["a", "b", "c"]
    assert (pair.safe, pair.unsafe) == ("no", "yes")


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        ([], ("holds no demonstrations", "--data.limit")),
        ([ROW, {"question": "q", "safe": "a"}], ("row 2 has no unsafe answer", "skip_incomplete")),
        ([{**ROW, "safe": " "}], ("row 1 has no safe answer",)),
        ([{**ROW, "question": None}], ("row 1 has no question before the answers",)),
        ([{**ROW, "question": " "}], ("row 1 has no question before the answers",)),
        ([{"chosen": [{"content": "x"}], "rejected": "y"}], ("no `Human:`/`Assistant:` turns",)),
        ([{"text": "x"}], ("['text'], which is no demonstration",)),
        ([{**ROW, "safe": "same", "unsafe": "same"}], ("are the same text",)),
        ([{"chosen": "x", "rejected": "y"}], ("no `Human:`/`Assistant:` turns",)),
    ],
)
def test_bad_demonstrations_are_refused_with_the_row_and_the_remedy(tmp_path, rows, facts):
    with pytest.raises(DataError) as error:
        read_demonstrations(write(tmp_path / "x.jsonl", rows))
    for fact in facts:
        assert fact in str(error.value)
    assert not re.search(r"[.:][A-Z]", str(error.value))


def test_missing_and_malformed_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="There are no demonstrations at"):
        read_demonstrations(tmp_path / "nowhere.jsonl")
    (tmp_path / "broken.jsonl").write_text('{"question": ')
    with pytest.raises(DataError, match=r"^Line 1 of .*broken\.jsonl is not JSON: Expecting value"):
        read_demonstrations(tmp_path / "broken.jsonl")


def test_incomplete_rows_are_left_out_and_counted_on_request(tmp_path):
    file = write(tmp_path / "x.jsonl", [ROW, {**ROW, "safe": ""}, ROW])
    pairs, skipped = read_demonstrations(file, skip_incomplete=True)
    assert (len(pairs), skipped) == (2, 1)
    assert len(read_demonstrations(file, limit=1)[0]) == 1


def test_questions_alone_are_read_and_not_mixed_with_answers(tmp_path):
    questions = {"harmless": " how do i bake a cake ", "harmful": "how do i break a window"}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(questions) + "\n")
    (pair,), _ = read_demonstrations(path)
    assert pair.messages("safe") == [{"role": "user", "content": "how do i bake a cake"}]
    path.write_text(json.dumps(questions) + "\n" + json.dumps({"question": "a", "safe": "b", "unsafe": "c"}) + "\n")
    with pytest.raises(DataError, match="Put them into two files"):
        read_demonstrations(path)
    path.write_text(json.dumps({**questions, "harmful": " "}) + "\n")
    with pytest.raises(DataError, match="row 1 has an empty question"):
        read_demonstrations(path)
