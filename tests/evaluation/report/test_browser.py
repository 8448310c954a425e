"""The report in a real browser: every plot has a size, nothing is fetched, nothing sticks out."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from support.judged import answered, four_arms, judged, results_of

from sa_lightning.evaluation import Outcome, Verdict, agreements, write_html
from sa_lightning.evaluation.report.sections import XSTEST_TYPES

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser is at hand: none of {', '.join(NAMES)}")

# What the browser has made of the page, written into the page, where --dump-dom finds it.
PROBE = """<script>
const violations = [];
document.addEventListener("securitypolicyviolation", event => violations.push(event.blockedURI));
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(each => each.open = true);
  const size = each => { const r = each.getBoundingClientRect(); return [r.width, r.height]; };
  const found = {
    images: [...document.images].map(i => [i.naturalWidth, i.naturalHeight, ...size(i)]),
    plots: [...document.querySelectorAll("[data-plot]")].map(e => [e.dataset.plot, ...size(e)]),
    stacks: [...document.querySelectorAll(".bar")].map(
      e => [size(e)[0], [...e.children].reduce((sum, part) => sum + size(part)[0], 0)]),
    rates: [...document.querySelectorAll(".rate i")].map(
      e => [size(e)[0] / size(e.parentElement)[0], parseFloat(e.style.width) / 100]),
    fetched: performance.getEntriesByType("resource").map(e => e.name).filter(name => !name.startsWith("data:")),
    violations: violations,
    sticks_out: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
  const pre = document.createElement("pre");
  pre.id = "probe";
  pre.textContent = JSON.stringify(found);
  document.body.appendChild(pre);
});
</script>"""


def seen(text, directory, width=1200):
    """What a browser sees of a page."""
    path = directory / "probed.html"
    path.write_text(text.replace("<head>", f"<head>{PROBE}", 1))
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run",
        f"--user-data-dir={directory / 'profile'}", f"--window-size={width},2000", "--virtual-time-budget=3000",
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)[1]))


def many_arms():
    """Four arms, categories, types of XSTest, two judges."""
    samples = four_arms()
    for number, name in enumerate(samples):
        outcomes = ["refused"] * number + ["complied"] * (5 - number)
        safe = [
            replace(s, id=f"{kind}{s.id}", category=kind)
            for kind in XSTEST_TYPES
            for s in judged(outcomes, "borderline", "sa_xstest_safe")
        ]
        subjects = [
            replace(s, task="mmlu", id=f"{subject}{s.id}", category=f"a subject with a long name, number {subject}")
            for subject in range(57)
            for s in answered([i > number for i in range(5)])
        ]
        samples[name] += safe + subjects
        samples[name] = [
            replace(s, verdicts={"one": Verdict(s.outcome), "other": Verdict(Outcome.REFUSED)}) if s.outcome else s
            for s in samples[name]
        ]
    return samples


@pytest.mark.parametrize("width", [1200, 500])
def test_every_plot_renders_and_nothing_is_fetched(tmp_path, width):
    samples = many_arms()
    results = results_of(samples, agreement=agreements(sample for found in samples.values() for sample in found))
    write_html(results, tmp_path / "report.html", samples=samples, directions={"original": [0.1, 0.5, 0.2]})
    found = seen((tmp_path / "report.html").read_text(), tmp_path, width)
    assert len(found["images"]) == 4
    assert all(min(sizes) > 100 for sizes in found["images"])
    kinds = [plot[0] for plot in found["plots"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "outcomes": 3, "plane": 3, "lines": 1, "bars": 57 + 10 + 2 * 10,
    }  # fmt: skip
    assert all(width > 100 and height > 7 for _, width, height in found["plots"])
    assert len(found["stacks"]) == 3 * 4
    assert all(parts == pytest.approx(whole, abs=3) for whole, parts in found["stacks"])
    assert len(found["rates"]) == (57 + 10 + 10) * 4
    assert all(drawn == pytest.approx(meant, abs=0.01) for drawn, meant in found["rates"])
    assert found["fetched"] == found["violations"] == []
    assert found["sticks_out"] <= 0


def test_a_page_of_one_arm_does_not_stick_out_either(tmp_path):
    samples = {"an-arm-with-a-name-that-is-longer-than-anyone-would-want-it-to-be": judged(["complied"] * 3)}
    write_html(results_of(samples), tmp_path / "report.html")
    found = seen((tmp_path / "report.html").read_text(), tmp_path)
    assert found["sticks_out"] <= 0
    assert found["images"] == []
    assert len(found["stacks"]) == 1


def test_the_probe_sees_what_a_page_fetches_and_what_is_not_drawn(tmp_path):
    page = '<html><head></head><body><img src="other.png"><img src="http://127.0.0.1:9/x.png"></body></html>'
    found = seen(page, tmp_path)
    assert found["images"][0][:2] == [0, 0]
    assert any("127.0.0.1:9" in name or "other.png" in name for name in found["fetched"])
    guarded = page.replace(
        "<head>", """<head><meta http-equiv="Content-Security-Policy" content="default-src data: 'unsafe-inline'">"""
    )
    assert len(seen(guarded, tmp_path)["violations"]) == 2
