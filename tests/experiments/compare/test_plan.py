import dataclasses
import json
from dataclasses import asdict

import pytest
from support.compared import documents, fill, plan_of

from sa_lightning.errors import SettingError
from sa_lightning.evaluation.statistics.pareto import choose
from sa_lightning.experiments.compare.choice import Trial, decide, pooled
from sa_lightning.experiments.compare.findings import findings
from sa_lightning.experiments.compare.settings import Method, grid
from sa_lightning.experiments.compare.tables import rate_lines

SCALES = {"choose": {"surgery.scale": [0.1, 0.2, 0.4]}}
SEEDS = {"choose": [0, 1], "report": [10, 11]}


def replies(attacks=10, refused=0, wrong=0):
    """Of 20 attacks, so many succeed; of 20 borderline prompts, so many are refused; of 20 sums, so many are wrong."""
    return documents(
        cakes="c" * attacks + "r" * (20 - attacks),
        bread="r" * refused + "c" * (20 - refused),
        sums="-" * wrong + "+" * (20 - wrong),
    )


def scaled(job, slope=20):
    """Attack success that falls, and over-refusal that grows, with the scale."""
    scale = job.settings.get("surgery.scale", 0) + job.settings.get("steering.strength", 0)
    return replies(max(0, 10 - round(slope * scale)), refused=3 if scale >= 0.4 else 0)


def metrics(**more):
    return pooled([{"counts": {"attack_success": [10, 20], "over_refusal": [0, 20], **more}}])


def test_the_best_within_the_limits_is_what_a_sweep_would_choose():
    trials = [
        Trial({"n": 0}, metrics(attack_success=[5, 20])),
        Trial({"n": 1}, metrics(attack_success=[1, 20], over_refusal=[2, 20])),
        Trial({"n": 2}, metrics(attack_success=[4, 20])),
        Trial({"n": 3}, metrics(attack_success=[4, 20])),
        Trial({"n": 4}, None, "nothing changed"),
    ]
    limits = {"over_refusal": 0.05}
    found = decide(Method(), trials, metrics(), "attack_success", limits)
    assert (found.state, found.settings, found.taken) == ("chosen", {"n": 2}, 2)
    assert found.taken == choose([{"metrics": t.metrics} for t in trials], "attack_success", metrics(), limits)
    assert decide(Method(), trials, metrics(), "attack_success", {"over_refusal": 0.1}).settings == {"n": 1}


def test_where_nothing_is_within_the_limits_nothing_is_taken_or_the_closest():
    trials = [
        Trial({"n": 0}, metrics(attack_success=[0, 20], over_refusal=[9, 20])),
        Trial({"n": 1}, metrics(attack_success=[6, 20], over_refusal=[4, 20])),
    ]
    limits = {"over_refusal": 0.05}
    found = decide(Method(), trials, metrics(), "attack_success", limits)
    assert (found.state, found.settings) == ("none", None)
    found = decide(Method(fallback=True), trials, metrics(), "attack_success", limits)
    assert (found.state, found.settings) == ("fallback", {"n": 1})
    assert decide(Method(fallback=True), [Trial({}, None, "failed")], metrics(), "attack_success", {}).state == "none"


def test_a_match_is_the_closest_to_a_share_of_the_originals_whatever_it_costs():
    rates = [9, 6, 4, 1]
    trials = [Trial({"n": n}, metrics(attack_success=[k, 20], over_refusal=[9, 20])) for n, k in enumerate(rates)]
    for at, expected in ((0.5, 1), (0.35, 2), (0.0, 3), (1.0, 0)):
        method = Method(rule="matched", at=at)
        assert decide(method, trials, metrics(), "attack_success", {"over_refusal": 0}).taken == expected


def test_a_row_is_chosen_on_the_seeds_for_choosing_and_then_reported(tmp_path):
    plan = plan_of(tmp_path, rows={"mild": SCALES}, seeds=SEEDS)
    jobs, waiting = plan.jobs()
    assert {(job.row, job.stage, job.seed) for job in jobs} == {
        *((name, "choose", seed) for name in ("original", "mild") for seed in (0, 1)),
        *(("original", "report", seed) for seed in (10, 11)),
    }
    assert waiting == [("mild", "target", 2)]
    # 2 originals, 3 scales on 2 seeds; then the chosen scale on 2 others, with 2 originals.
    assert fill(plan, scaled) == 2 + 6 + 2 + 2
    assert plan.choice("mild", "target").settings == {"surgery.scale": 0.2}
    reported = plan.reporting("mild", "target")
    assert [(job.seed, job.identity["metadata"]["split"]) for job in reported] == [(10, "test"), (11, "test")]
    assert all(job.identity["settings"]["surgery.scale"] == 0.2 for job in reported)
    assert plan.jobs()[1] == []


def test_what_is_reported_changes_no_choice(tmp_path):
    plan = plan_of(tmp_path / "a", rows={"mild": SCALES}, seeds=SEEDS)
    fill(plan, scaled)
    other = plan_of(tmp_path / "b", rows={"mild": SCALES}, seeds=SEEDS)
    fill(other, lambda job: scaled(job) if job.stage == "choose" else replies(20, refused=20, wrong=20))
    assert other.choice("mild", "target") == plan.choice("mild", "target")


def test_the_choice_waits_for_every_seed(tmp_path):
    plan = plan_of(tmp_path, rows={"mild": SCALES}, seeds=SEEDS)
    fill(plan, scaled, wanted=lambda job: job.seed != 1)
    assert plan.choice("mild", "target").state == "waiting"
    missing = findings(plan)["missing"]
    assert {(m["row"], m["stage"], *m["seeds"], m["count"]) for m in missing} == {
        ("original", "choose", 1, 1),
        ("mild", "choose", 1, 3),
        ("mild", "waiting for a choice", 2),
    }
    fill(plan, scaled)
    assert findings(plan)["missing"] == []


def test_a_setting_that_fails_on_one_seed_is_not_taken(tmp_path):
    plan = plan_of(tmp_path, rows={"mild": SCALES}, seeds=SEEDS)
    fill(plan, lambda job: "too far" if job.seed == 1 and job.settings.get("surgery.scale") == 0.2 else scaled(job))
    assert plan.choice("mild", "target").settings == {"surgery.scale": 0.1}
    trials = findings(plan)["targets"]["target"]["choices"]["mild"]["trials"]
    assert [trial["remark"] for trial in trials] == ["", "too far", "too costly"]


def test_a_row_builds_on_what_others_have_chosen(tmp_path):
    rows = {
        "both": {
            **{"arm": "edited+steered", "from": ["mild", "turn"]},
            "set": {"surgery.ties": "keep", "surgery.scope.layers": [1, 2]},
        },
        "mild": {"set": {"surgery.density": 0.3}, **SCALES},
        "turn": {"arm": "steered", "choose": {"steering.strength": [0.05, 0.1]}},
    }
    plan = plan_of(tmp_path, rows=rows, seeds=SEEDS)
    assert plan.choice("both", "target").state == "waiting"
    fill(plan, scaled)
    expected = {"surgery.density": 0.3, "surgery.scale": 0.2, "steering.strength": 0.1, "surgery.ties": "keep"}
    assert plan.choice("both", "target").settings == expected | {"surgery.scope.layers": [1, 2]}
    job = plan.reporting("both", "target")[0]
    # The identity has what differs from the defaults, of the parts that the arm depends on, and no more. Of some
    # settings the defaults are those of the rows on record.
    norms = {"steering.unit": "typical", "steering.sinks": 8.0}
    assert job.identity["settings"] == {
        **expected,
        **{"surgery.base": "oven", "surgery.harm": "broken-oven", "data.demonstrations": "pairs.jsonl"},
        **norms,
        "surgery.scope": {"layers": [1, 2]},  # and no more of it: a scope may get more settings
    }
    (turn, _) = plan.reporting("turn", "target")
    assert turn.identity["settings"] == {"steering.strength": 0.1, "data.demonstrations": "pairs.jsonl", **norms}


def test_rows_with_the_same_settings_are_measured_once(tmp_path):
    rows = {"mild": {"set": {"surgery.scale": 0.2}}, "same": {"from": "mild"}, "curved": {"from": "mild"}}
    rows["curved"]["curve"] = {"surgery.scale": [0.1, 0.2]}
    plan = plan_of(tmp_path, rows=rows, seeds={"report": [10]})
    assert fill(plan, scaled) == 1 + 1 + 1
    found = findings(plan)["targets"]["target"]["rows"]
    assert found["same"]["rates"] == found["mild"]["rates"]
    curve = found["curved"]["curve"]
    assert [point["rates"]["attack_success"].k for point in curve] == [8, 6]


def test_draws_are_numbered_and_a_row_is_placed_among_them(tmp_path):
    rows = {
        "mild": {"set": {"surgery.scale": 0.2}, "control": "masks"},
        "masks": {"from": "mild", "set": {"surgery.select": "random"}, "draws": 20, "draw": "surgery.seed"},
    }
    criterion = {"row": "mild", "percentile_of_draws": 0.95, "control": "masks"}
    drawn = {"row": "masks", "relative_drop": 0.1}  # of which draw?
    plan = plan_of(
        tmp_path, rows=rows, seeds={"report": [10, 11]}, criteria=[{**criterion, "seeds_at_least": 2}, drawn]
    )

    def outcome(job):
        # On seed 11, one draw of the twenty does as well.
        return replies(6) if job.row == "mild" or (job.seed == 11 and job.draw == 7) else replies(8)

    fill(plan, outcome, wanted=lambda job: job.draw != 3)
    assert findings(plan)["criteria"][0].verdict == "not measured"  # the draw that lacks could be the better one
    fill(plan, outcome)
    found = findings(plan)
    draws = found["targets"]["target"]["rows"]["mild"]["controls"]["masks"]["draws"]
    assert [(entry.beaten, entry.of) for entry in draws.values()] == [(20, 20), (19, 20)]
    assert [one.verdict for one in found["criteria"]] == ["met", "not measured"]
    masks = found["targets"]["target"]["rows"]["masks"]
    assert masks["of_draws"]["attack_success"] == [0.35] + [0.4] * 19
    written = json.loads(json.dumps(found, default=asdict))  # as compare.json has it
    mild = written["targets"]["target"]["rows"]["mild"]
    test = [
        "n", "a_only", "b_only", "p", "difference", "low", "high", "bootstrap_low", "bootstrap_high", "clusters",
        "p_clustered",
    ]  # fmt: skip
    assert list(mild["rates"]["attack_success"]) == ["rate", "k", "n", "low", "high"]
    change = mild["change"]["attack_success"]
    assert list(change) == [*test, "by_seed", "seeds_low", "seeds_high", "p_holm", "tests"]
    assert list(change["by_seed"]["10"]) == test
    assert list(mild["controls"]["masks"]["draws"]["10"]) == ["rate", "draws", "beaten", "of", "p"]
    criterion = written["criteria"][0]
    assert criterion.keys() == {
        "text", "signed", "verdict", "why", "value", "low", "high", "by_seed", "holding", "of"
    }  # fmt: skip
    assert list(criterion["by_seed"]["10"]) == ["value", "low", "high", "holds", "beaten", "of"]
    assert masks["rates"]["attack_success"].low is None  # draws on the same prompts are no further prompts
    assert "change" not in masks


def test_a_statement_may_be_about_one_task_and_about_doing_no_worse(tmp_path):
    criteria = [
        {"row": "mild", "metric": metric, "task": task, "not_worse": True}
        for metric in ("attack_success", "refusal_harmful")
        for task in ("cakes", "wrapped_cakes")
    ]
    plan = plan_of(tmp_path, rows={"mild": {}}, seeds={"report": [10]}, criteria=criteria)
    before = documents(cakes="c" * 20 + "r" * 20, wrapped_cakes="c" * 20 + "r" * 20)
    after = documents(
        cakes="r" * 20 + "r" * 20, wrapped_cakes="c" * 20 + "c" * 20
    )  # as many attacks as before, together
    fill(plan, lambda job: before if job.row == "original" else after)
    found = findings(plan)["criteria"]
    assert [one.verdict for one in found] == ["met", "not met", "met", "not met"]
    assert [one.value for one in found] == pytest.approx([-0.5, 0.5, 0.5, -0.5])
    assert "attack success on wrapped_cakes" in found[1].text


def test_borderline_prompts_of_several_tasks_are_shown_apart(tmp_path):
    plan = plan_of(tmp_path, rows={"mild": {}}, seeds={"report": [10]})
    some = documents(cakes="cr", bread="rrc")
    other = [dataclasses.replace(sample, task="rolls") for sample in documents(bread="ccc")]
    fill(plan, lambda job: [*some, *other])
    target = next(iter(findings(plan)["targets"].values()))
    head, first, *_ = rate_lines(target["rows"])
    cells = dict(zip(head, first, strict=True))
    assert [cells[name].split()[0] for name in ("over refusal", "bread", "rolls")] == ["33.3", "66.7", "0.0"]


def test_a_row_stays_the_same_when_gates_or_rules_get_more_settings(tmp_path):
    """What is left at its default, inside a gate or a rule, is no part of a row's identity, which keeps its words."""
    short = {"spare": {"direction": "false_refusal", "gate": {"kind": "linear", "negative_factor": 0.0}}}
    long = {"spare": {**short["spare"], "orthogonal": 1.0, "gate": {**short["spare"]["gate"], "recall": 0.95}}}
    other = {"spare": {**short["spare"], "orthogonal": 0.5}}
    rows = {
        name: {"arm": "steered", "set": {"steering.rules": rules}}
        for name, rules in (("short", short), ("long", long), ("other", other))
    }
    plan = plan_of(tmp_path, rows=rows, seeds={"report": [10]})
    found = {name: plan.reporting(name, "target")[0].identity["settings"]["steering.parts"] for name in rows}
    known = {"spare": {"direction": "false_refusal", "gate": {"kind": "linear", "others": 0.0}}}
    assert found["short"] == found["long"] == known
    assert found["other"] == {"spare": {**known["spare"], "orthogonal": 0.5}}
    assert plan.reporting("short", "target")[0].identity["settings"]["steering.direction"] == "none"
    assert rows["short"]["set"]["steering.rules"] == short  # what was given is as it was


def test_criteria_are_met_by_what_they_say_and_not_by_less(tmp_path):
    criteria = [
        {"row": "mild", "relative_drop": 0.5, "seeds_at_least": 2},
        {"row": "mild", "relative_drop": 0.5},
        {"row": "mild", "relative_drop": 0.5, "seeds_at_least": 1},
        {"row": "mild", "metric": "over_refusal", "change_at_most": 0.05},
        {"row": "mild", "metric": "over_refusal", "change_at_most": 0.02},
        {"row": "mild", "metric": "utility", "change_low": -0.03},
        {"row": "mild", "metric": "utility", "change_low": -0.03, "or_includes_zero": True},
        {"row": "mild", "metric": "over_refusal", "at_most": 0.05},
        {"row": "mild", "metric": "over_refusal", "at_most": 0.02},
    ]
    outcomes = {10: replies(5, refused=1), 11: replies(6, refused=1, wrong=1)}
    plan = plan_of(tmp_path, rows={"mild": {}}, seeds={"report": [10, 11]}, criteria=criteria)

    def outcome(job):
        return replies(10) if job.row == "original" else outcomes[job.seed]

    fill(plan, outcome, wanted=lambda job: job.seed == 10)
    early = findings(plan)["criteria"]
    assert [found.verdict for found in early[:3]] == ["not measured", "not measured", "met"]
    fill(plan, outcome)
    found = findings(plan)["criteria"]
    assert [one.verdict for one in found] == [
        *("not met", "not met", "met"),
        *("met", "not met"),
        *("not met", "met"),
        *("met", "not met"),
    ]
    assert found[1].value == pytest.approx(0.45)
    assert [entry.holds for entry in found[0].by_seed.values()] == [True, False]
    assert found[3].value == pytest.approx(0.05)


def test_a_row_without_settings_within_the_limits_meets_nothing(tmp_path):
    rows = {"mild": SCALES}
    plan = plan_of(tmp_path, rows=rows, seeds=SEEDS, criteria=[{"row": "mild", "relative_drop": 0.1}])
    fill(plan, lambda job: replies(10) if job.row == "original" else replies(0, refused=10))
    found = findings(plan)
    assert found["criteria"][0].verdict == "not met"
    assert found["criteria"][0].why == "no setting is within the limits"
    assert found["targets"]["target"]["rows"]["mild"]["state"] == "none"
    assert found["missing"] == []


def test_of_candidates_the_best_alone_is_reported_and_tested(tmp_path):
    rows = {
        "mild": {"set": {"surgery.scale": 0.1}},
        "one": {"set": {"surgery.density": 0.5}, **SCALES},
        "two": {"choose": {"surgery.scale": [0.25, 0.3]}},
        "costly": {"set": {"surgery.scale": 0.4}},
    }
    candidates = {"names": ["one", "two", "costly"], "baseline": "mild"}
    plan = plan_of(tmp_path, rows=rows, seeds=SEEDS, candidates=candidates)
    fill(plan, scaled)
    assert plan.winner() == "two"
    assert {row["row"] for row in plan.rows if row["stage"] == "report"} == {"original", "mild", "two"}
    found = findings(plan)["candidates"]
    assert found["chosen"] == "two"
    entry = found["against"]["target"]["attack_success"]
    assert entry.difference == pytest.approx((4 - 8) / 20)
    assert entry.p_candidates == pytest.approx(min(1, 3 * entry.p_clustered))


def test_p_values_are_corrected_over_the_rows_of_a_column(tmp_path):
    from sa_lightning.evaluation.statistics.comparisons import holm

    scales = {f"row{number}": {"set": {"surgery.scale": 0.1 * number}} for number in (1, 2, 3)}
    plan = plan_of(tmp_path, rows=scales, seeds={"report": [10]})
    fill(plan, scaled)
    found = [
        row["change"]["attack_success"]
        for row in findings(plan)["targets"]["target"]["rows"].values()
        if "change" in row
    ]
    assert [one.p_holm for one in found] == holm([one.p_clustered for one in found])
    assert len({one.p_clustered for one in found}) == 3


def test_models_are_apart(tmp_path):
    rows = {"mild": SCALES, "other": {"targets": ["b"], "set": {"surgery.scale": 0.3}}}
    plan = plan_of(
        tmp_path, rows=rows, seeds=SEEDS, targets={"a": "oven-a", "b": {"target": "oven-b", "dtype": "bfloat16"}}
    )
    fill(plan, lambda job: scaled(job, slope=20 if job.target == "a" else -20))
    assert plan.choice("mild", "a").settings == {"surgery.scale": 0.2}
    assert plan.choice("mild", "b").settings == {"surgery.scale": 0.1}
    assert {row["target"] for row in plan.rows if row["row"] == "other"} == {"b"}
    models = [row["model"] for row in plan.rows if row["target"] == "b"]
    assert all(model == {"target": "oven-b", "dtype": "bfloat16"} for model in models)


def test_a_grid_is_every_combination_each_once():
    points = grid([{"surgery.a": [1, 2], "surgery.b": 3}, {"surgery.a": [2, 4], "surgery.b": 3}], "it")
    assert points == [{"surgery.a": a, "surgery.b": 3} for a in (1, 2, 4)]
    for wrong in ({}, [], {"surgery.a": []}, {"model.target": [1]}):
        with pytest.raises(SettingError):
            grid(wrong, "it")


def test_a_row_that_fails_on_a_seed_of_the_report_does_not_hold_there(tmp_path):
    whole = {"row": "mild", "relative_drop": 0.1}
    plan = plan_of(
        tmp_path,
        rows={"mild": {"set": {"surgery.scale": 0.2}}},
        seeds={"report": [10, 11, 12]},
        criteria=[whole, {**whole, "seeds_at_least": 3}, {**whole, "seeds_at_least": 2}],
    )
    fill(
        plan, lambda job: "too far" if job.seed == 12 and job.row == "mild" else replies(6 if job.row == "mild" else 10)
    )
    found = findings(plan)["criteria"]
    assert [one.verdict for one in found] == ["not met", "not met", "met"]
    assert all("failed on seed 12" in one.why for one in found)


def test_rows_that_share_measurements_are_planned_for_each_of_them_alone(tmp_path):
    rows = {"mild": {"set": {"surgery.scale": 0.2}}, "same": {"from": "mild"}}
    plan = plan_of(tmp_path, rows=rows, seeds={"report": [10]})
    assert [job.row for job in plan.jobs()[0]] == ["original", "mild"]
    assert [job.row for job in plan.jobs(["same"])[0]] == ["same"]
    assert plan.jobs(["same"])[0][0].key == plan.jobs(["mild"])[0][0].key
