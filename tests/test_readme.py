"""What the README and its pages say is true: tree, commands, links, tables."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {
    name: (ROOT / name / "README.md").read_text()
    for name in (".", "tests/benchmarks", "tests/evidence", "tests/evidence/refusals")
}
EVIDENCE = PAGES["tests/evidence"]
SA = Path(sys.executable).with_name("sa")


def tree_of_readme():
    block = README.split("## Where things are")[1].split("```")[1]
    paths, room = set(), ""
    for line in block.splitlines():
        found = re.match(r"([│ ]*)[├└]── (\S+)", line)
        if not found:
            continue
        nested, name = bool(found[1].strip() or len(found[1]) >= 4), found[2]
        if name.endswith("/"):
            room = name
        else:
            paths.add(f"{room}{name}" if nested else name)
    return paths


def test_the_tree_names_every_file_of_the_package_and_no_other():
    package = ROOT / "sa_lightning"
    there = {str(path.relative_to(package)) for path in package.rglob("*.py") if not path.name.startswith("__")}
    assert tree_of_readme() == there


def commands():
    pages = "\n".join(PAGES.values())
    blocks = re.findall(r"```bash\n(.*?)```", pages, re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    inline = [" ".join(command.split()) for command in re.findall(r"`((?:sa|make) [^`…]+)`", pages)]
    return list(dict.fromkeys(line for line in [*lines, *inline] if line.startswith(("sa ", "make "))))


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("sa ") and "--" in c])
def test_every_command_parses(command, tmp_path, monkeypatch):
    words = shlex.split(command)[1:]
    if words[0] == "lm-eval":  # lm-eval parses the rest, and has nothing to print it with
        from lm_eval._cli import HarnessCLI

        monkeypatch.setattr(sys, "argv", words)
        assert HarnessCLI().parse_args().command == words[1]
        return
    if "--help" not in words:
        words.append("--print_config")
    done = subprocess.run([SA, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_make_target_is_there():
    makefile = (ROOT / "Makefile").read_text()
    for command in commands():
        if command.startswith("make "):
            assert f"\n{command.split()[1]}:" in makefile


def test_the_yaml_of_the_readme_is_a_config(tmp_path):
    block = re.search(r"```yaml\n(.*?)```", README, re.S)
    assert block
    (tmp_path / "mine.yaml").write_text(block[1])
    done = subprocess.run(
        [SA, "fit", "--config", tmp_path / "mine.yaml", "--print_config"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "harm: runs/harm-lora" in done.stdout


def test_the_table_of_families_is_what_the_tests_see():
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from support.families import table

    assert table() in README


def test_every_link_into_the_project_leads_somewhere():
    for folder, page in PAGES.items():
        for path in re.findall(r"`((?:tests|configs|tasks|sa_lightning)/[\w/.-]+)`", page):
            assert (ROOT / path).exists(), path
        for path, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page):
            target = ROOT / folder / path if path else ROOT / folder / "README.md"
            assert target.exists(), f"{folder}: {path}"
            if heading:
                there = target / "README.md" if target.is_dir() else target
                titles = re.findall(r"^#+ (.+)$", there.read_text(), re.M)
                assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, heading


def test_the_tables_are_those_of_the_committed_rows():
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "evidence" / "first_table.py", "--print"],
        capture_output=True,
        text=True,
        check=True,
    )
    printed = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    success, costs, random = (printed[start : start + 7] for start in (0, 7, 14))
    for line in [*success, *random]:
        assert line in EVIDENCE
    # The sentence about costs: its bounds are those of the table, and none is looser than it must be.
    sentence = EVIDENCE.split("What `edited` and `edited+steered` cost:")[1].split("\n\n")[0]
    refusals, contrast, changes, degenerate = (
        [re.findall(r"[-+]?\d+\.\d", line.split("|")[column]) for line in costs[1:]] for column in (2, 3, 4, 5)
    )
    said = [float(number) for number in re.findall(r"[-+]?\d+\.\d", sentence)]
    utility = [[float(number) for number in row] for row in changes]
    assert said == [
        max(float(number) for row in refusals for number in row),
        round(max(float(row[2]) - float(row[0]) for row in contrast), 1),
        min(min(row[0], row[3]) for row in utility),
        max(max(row[0], row[3]) for row in utility),
        min(min(row) for row in utility),
        max(max(row) for row in utility),
        max(float(number) for row in degenerate for number in row),
    ]


def test_the_table_of_the_kept_fraction_is_that_of_the_committed_sweep():
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "evidence" / "figure3.py"], capture_output=True, text=True, check=True
    )
    matched = done.stdout.split("At the paper's scale")[0]
    lines = [line for line in matched.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 16
    for line in lines:
        assert line in EVIDENCE
