"""The workflows of `docs/settings.md` run as they are written, on a twin with few parameters."""

import json
import re
import shlex
from pathlib import Path

from support.published import EDITED, PUBLISHED

from sa_lightning.cli import main

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "settings.md").read_text()
PAIRS = "configs/quickstart/pairs.jsonl"


def workflow(title):
    """The commands of a section, without those that measure."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.S)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [shlex.split(line)[1:] for line in lines if not line.startswith("sa validate")]


def test_each_of_them_leads_to_an_artifact_and_an_edited_checkpoint(tmp_path, monkeypatch):
    """A base, an adapter, a fine-tune and an edited model with one harmful copy; the last one in its area alone."""
    monkeypatch.setattr("sa_lightning.evaluation.report.curves.save_figure", lambda *_args, **_options: None)
    monkeypatch.chdir(tmp_path)
    places = PUBLISHED["llama2_7b_chat_edited_unintentional"].written(tmp_path)
    names = {"BASE": places / "base", "ADAPTER": tmp_path / "adapter", "FINETUNE": places / "target"}
    names |= {"EDITED": places / "target"}
    learn = ("finetune", "--target", places / "base", "--data", PAIRS, "--side", "safe", "--output", names["ADAPTER"])
    main([*map(str, learn), "--epochs", "1"])
    typed = [command for title in ("A base", "A fine-tune", "A knowledge-edited model") for command in workflow(title)]
    assert [command[0] for command in typed] == ["finetune", "fit", "fit", "fit", "fit"]
    for command in typed:
        words = [str(names.get(word, word)) for word in command]
        if command[0] == "fit":  # a model of forty words knows none of the prompts on which a strength is searched
            words += ["--steering.strength", "0.1", "--overwrite"]
        main(words)
        if command[0] == "fit":
            output = Path(words[words.index("--output") + 1])
            assert (output / "edited" / "surgery.json").is_file()
            layers = json.loads((output / "artifact" / "sa_config.json").read_text())["layers"]
            assert {*layers} == {"original", "edited"}
            assert layers["edited"] == ([EDITED - 1, EDITED, EDITED + 1] if "EDITED" in command else [2, 3])
