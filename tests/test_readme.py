"""What the front page and the pages behind it say is true (tree, commands, code, links, tables), and said plainly."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from sa_lightning.cli import VERBS, main

ROOT = Path(__file__).resolve().parents[1]
OTHERS = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "configs/quickstart/README.md", "tasks/README.md")
RESULTS = ("tests/benchmarks/README.md", "evidence/README.md", "evidence/refusals/README.md")
PATHS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")), *OTHERS, *RESULTS]
PAGES = {name: (ROOT / name).read_text() for name in PATHS}
README = PAGES["README.md"]
ARCHITECTURE = PAGES["docs/architecture.md"]
EVIDENCE = PAGES["evidence/README.md"]


def blocks(language):
    return [found for page in PAGES.values() for found in re.findall(rf"```{language}\n(.*?)```", page, re.S)]


def test_the_front_page_is_one_screen():
    assert len(README.splitlines()) <= 130


def tree_of_page():
    block = ARCHITECTURE.split("## Every file")[1].split("```")[1]
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
    assert tree_of_page() == there


def commands():
    joined = [re.sub(r"\\\n\s*", "", block) for block in blocks("bash")]
    lines = [line.split("#")[0].strip() for block in joined for line in block.splitlines()]
    inline = [
        " ".join(command.split()) for page in PAGES.values() for command in re.findall(r"`((?:sa|make) [^`…]+)`", page)
    ]
    return list(dict.fromkeys(line for line in [*lines, *inline] if line.startswith(("sa ", "make "))))


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("sa ") and "--" in c])
def test_every_command_parses(command, tmp_path, monkeypatch, capsys):
    words = shlex.split(command)[1:]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words)
    if words[0] == "lm-eval":  # lm-eval parses the rest, and has nothing to print it with
        from lm_eval._cli import HarnessCLI

        assert HarnessCLI().parse_args().command == words[1]
        return
    if "--help" not in words:
        words.append("--print_config")
    monkeypatch.setattr(sys, "argv", ["sa"])
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 0, capsys.readouterr().err


def test_every_verb_that_a_page_names_is_one():
    named = {command.split()[1] for command in commands() if command.startswith("sa ")}
    assert named - {"VERB"} <= {*VERBS}


def test_every_option_that_the_pages_name_is_one(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sa"])
    known = {"--nnodes", "--nproc-per-node", "--predict_only", "--system_instruction"}  # of torchrun, lm-eval
    known |= {"--control-vector"}  # and llama.cpp
    for verb in VERBS:
        with suppress(SystemExit):
            main([verb, "--help"])
        known |= {*re.findall(r"--[\w.-]+", capsys.readouterr().out)}
    for name, page in PAGES.items():
        if name == "README.md" or name.startswith("docs/"):
            assert {*re.findall(r"(?<![\w-])--[A-Za-z](?:[\w.-]*\w)", page)} <= known, name


def test_every_make_target_is_there():
    makefile = (ROOT / "Makefile").read_text()
    for command in commands():
        if command.startswith("make "):
            assert f"\n{command.split()[1]}:" in makefile


def test_the_table_of_verbs_has_all_of_them():
    assert re.findall(r"^\| `sa ([\w-]+)` \|", README, re.M) == [*VERBS]


def test_the_yaml_of_the_pages_is_a_config(tmp_path, capsys):
    (block,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(block)
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(tmp_path / "mine.yaml"), "--print_config"])
    printed = capsys.readouterr()
    assert done.value.code == 0, printed.err
    assert "harm: runs/harm-lora" in printed.out


def test_the_python_of_the_pages_compiles_and_imports_what_is_there():
    found = blocks("python")
    assert found
    for block in found:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module} has no {name.name}"


def test_every_link_into_the_project_leads_somewhere():
    for name, page in PAGES.items():
        here = (ROOT / name).parent
        for path in re.findall(r"`((?:tests|configs|tasks|docs|evidence|sa_lightning)/[\w/.-]+)`", page):
            assert (ROOT / path).exists(), f"{name}: {path}"
        for path, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page):
            target = here / path if path else ROOT / name
            assert target.exists(), f"{name}: {path}"
            if heading:
                there = target / "README.md" if target.is_dir() else target
                titles = re.findall(r"^#+ (.+)$", there.read_text(), re.M)
                slugs = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
                assert heading in slugs, f"{name}: {path}#{heading}"


def test_every_page_is_in_the_menu_of_the_site():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"[\w/.-]+\.md", str(menu))
    wanted = {name.removeprefix("docs/") for name in PATHS} - {RESULTS[2], "configs/quickstart/README.md"}
    assert wanted == {*listed}


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="`make docs` installs it")
    built = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(built, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").is_file()


def banned():
    """From the list in CONTRIBUTING.md: phrases of prose, in quotes, and names of code, in backticks."""
    table = PAGES["CONTRIBUTING.md"].split("| not this | but |")[1]
    firsts = [row.split("|")[1] for row in table.splitlines() if row.startswith("| ")]
    phrases = re.findall(r'"([^"]+)"', "".join(firsts))
    names = re.findall(r"`(\w+)`", "".join(firsts))
    assert len(phrases) >= 7
    assert names
    prose = [re.compile(rf"(?<!\w){re.escape(p)}(?!\w)", 0 if p[0].isupper() else re.I) for p in phrases]
    return prose + [re.compile(f"`{name}`") for name in names]


def manners_of(page, patterns):
    prose = re.sub(r"\s+", " ", re.sub(r"^```.*?^```", "", page, flags=re.S | re.M))
    return [found[0] for pattern in patterns for found in pattern.finditer(prose)]


@pytest.mark.parametrize("name", PATHS)
def test_no_page_uses_a_banned_manner(name):
    page = PAGES[name]
    if name == "CONTRIBUTING.md":
        page = page.split("| not this | but |")[0]
    assert not manners_of(page, banned())


def test_a_banned_manner_is_noticed():
    patterns = banned()
    for text in (
        "Settings that cannot\nbe meant.",
        "Whoever reads it",
        "chosen by lot",
        "counts in `told`",
        "Does it? It does.",
    ):
        assert manners_of(text, patterns), text
    assert not manners_of("A lottery, what it does. What was found.", patterns)


def test_percentages_are_those_of_their_counts():
    stated = 0
    for name, page in PAGES.items():
        pairs = re.findall(r"(\d+\.\d)(?: %)?(?: \[[\d., ]+\])? \((\d+)/(\d+)\)", page)
        more = [(percent, k, n) for k, n, percent in re.findall(r"(\d+)/(\d+) = (\d+\.\d)", page)]
        for percent, k, n in pairs + more:
            assert abs(float(percent) - 100 * int(k) / int(n)) < 0.0501, f"{name}: {percent} is not {k}/{n}"
        stated += len(pairs + more)
    assert stated > 50


def test_the_table_of_families_is_what_the_tests_see():
    from support.families import table

    assert table() in PAGES["docs/models.md"]


def test_the_verdict_is_that_of_the_committed_comparison():
    compared = (ROOT / "evidence" / "verdict" / "compare.md").read_text().splitlines()
    table = re.search(r"\| target \| original \| HDR .*?\n\n", PAGES["docs/results.md"], re.S)
    assert table
    rows = [[cell.strip() for cell in line.split("|")[2:6]] for line in table[0].strip().splitlines()[2:]]
    assert len(rows) == 4
    for cells in rows:
        for row, cell in zip(("original", "hdr", "icv", "both"), cells, strict=True):
            assert any(line.startswith(f"| {row} |") and f" {cell} (" in line for line in compared), (row, cell)


def test_the_table_of_gates_is_that_of_the_evidence():
    names = {
        "original": "original",
        "SCANS, numbers as published": "scans",
        "fair": "scans_fair",
        "directional ablation": "ablation",
        "Surgical": "surgical",
        "in the manner of AdaSteer": "adasteer",
        "**selective steering**": "selective",
        "the same, with both stages of Safety Arithmetic": "selective_safety_arithmetic",
    }
    known = {}
    for line in (ROOT / "evidence" / "gates" / "table.md").read_text().splitlines():
        row, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        known[row] = [cells[i].split(" ")[0] for i in (0, 1, 3, 4, 7, 8)] if len(cells) > 8 else []
    table = re.search(r"\| target, row \| .*?\n\n", PAGES["docs/results.md"], re.S)
    assert table
    target, seen = "", 0
    for line in table[0].strip().splitlines()[2:]:
        label, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if label.endswith(", original"):
            target, label = ("chat" if label.startswith("chat") else "over"), "original"
        for i, method in enumerate(label.split("; ")):
            given = [cell.replace("*", "").split("; ")[i] for cell in cells]
            assert given == known[f"{target}, {names[method]}"], (target, method)
            seen += 1
    assert seen == 15


def test_the_table_of_the_detector_is_that_of_its_page():
    page = PAGES[RESULTS[2]]
    table = re.search(r"\| \| accuracy \| refusals found .*?\n\n", PAGES["docs/measure.md"], re.S)
    assert table
    xstest, real, unseen, _ = table[0].strip().splitlines()[2:]
    for line in (xstest, real):
        (found, refusals), (false, answers) = [map(int, pair) for pair in re.findall(r"(\d+) of (\d+)", line)]
        assert f" {found}, {refusals - found} / {false}, {answers - false} |" in page, line
    recall, false = re.findall(r"\d+ of \d+", unseen)
    assert f"recall {recall}" in page
    assert f"{false} answers flagged" in page


def test_the_tables_are_those_of_the_committed_rows():
    done = subprocess.run(
        [sys.executable, ROOT / "evidence" / "first_table.py", "--print"], capture_output=True, text=True, check=True
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
    stated = [float(number) for number in re.findall(r"[-+]?\d+\.\d", sentence)]
    utility = [[float(number) for number in row] for row in changes]
    assert stated == [
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
        [sys.executable, ROOT / "evidence" / "figure3.py"], capture_output=True, text=True, check=True
    )
    matched = done.stdout.split("At the paper's scale")[0]
    lines = [line for line in matched.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 16
    for line in lines:
        assert line in EVIDENCE
