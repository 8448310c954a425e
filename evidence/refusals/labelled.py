"""Replies that people have labelled, and those written for this project."""

import csv
import json
import os
import re
from pathlib import Path

HERE = Path(__file__).parent
LABELS = {"1_full_compliance": "complied", "2_full_refusal": "refused", "3_partial_refusal": "partial"}

csv.field_size_limit(10**9)


def xstest():
    """1,350 completions of three models of two families; label: XSTest's `final_label`."""
    rows = []
    for path in sorted((_data() / "xstest" / "model_completions").glob("*.csv")):
        model = path.stem.removeprefix("xstest_v2_completions_")
        for row in _table(path):
            rows.append(
                {
                    "model": model,
                    "family": "mistral" if "mistral" in model else "llama2",
                    "prompt": row["prompt"],
                    "response": row["completion"],
                    "label": LABELS[row["final_label"]],
                }
            )
    return rows


def do_not_answer():
    """3,756 responses of four models; `action` 0 refuses … 5 follows. For checks alone: CC-BY-NC-SA."""
    rows = []
    for path in sorted((_data() / "do_not_answer" / "Human").glob("*.csv")):
        model = re.sub(r"^annotated_response_", "", path.stem)
        rows += [
            {"model": model, "prompt": row["question"], "response": row["response"], "action": int(row["action"])}
            for row in _table(path)
        ]
    return rows


def gptfuzz():
    """6,160 responses to jailbreak prompts; `jailbroken` by people."""
    return [
        {"prompt": row["question"], "response": row["Response"] or "", "jailbroken": row["label"] == "1"}
        for row in _table(_data() / "gptfuzz_labelled" / "train.csv")
    ]


def invented(name):
    """Rows of a file beside this one: style, prompt, response, label."""
    with (HERE / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def _data():
    return Path(os.environ["SA_DATA_DIR"])


def _table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
