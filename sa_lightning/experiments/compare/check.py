"""What is refused before a model is loaded: names that lead nowhere, grids without values, settings that are none."""

from collections.abc import Iterable
from typing import Any

from sa_lightning.errors import SettingError
from sa_lightning.evaluation.harness.settings import EvaluationSettings
from sa_lightning.evaluation.statistics.comparisons import PAIRED
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS
from sa_lightning.experiments.compare.plan import Plan
from sa_lightning.experiments.compare.settings import ORIGINAL, Criterion, Method, check_names, grid
from sa_lightning.experiments.settings import Settings, made
from sa_lightning.resources import shipped


def check(plan: Plan, rerun: str | None) -> None:
    """Refuse a comparison that cannot be run as it is written.

    Raises:
        SettingError: With what was written, what there is, and what to change.
    """
    settings, evaluation = plan.settings, plan.config["evaluation"]
    if not settings.rows or ORIGINAL in settings.rows:
        raise SettingError(
            f"`compare.rows` names {', '.join(settings.rows) or 'nothing'}.\n"
            "A row is a method under settings; `original` is always there, and is no name for another.\n"
            "Write, say, `rows: {edited: {set: {surgery.scale: 0.5}}}`."
        )
    if not plan.models or not all(model.get("target") for model in plan.models.values()):
        raise SettingError(
            "There is no model: neither `model.target` nor `compare.targets` names one.\n"
            "Rows are measured on a model.\nGive `--model.target MODEL`."
        )
    _names("compare.only", settings.only or (), plan.methods)
    _names("rerun", [rerun] if rerun is not None else (), plan.methods)
    _names("compare.only_targets", settings.only_targets or (), plan.models)
    _names("compare.limits", settings.limits, DIRECTIONS)
    _names("compare.objective", [settings.objective], DIRECTIONS)
    for name in ("seeds", "splits"):
        _names(f"compare.{name}", getattr(settings, name), ("choose", "report"))
    every = [seed for seeds in settings.seeds.values() for seed in seeds]
    _names("compare.only_seeds", settings.only_seeds or (), every)
    if not settings.seeds.get("report"):
        raise SettingError(
            f"`compare.seeds` is {settings.seeds}, without `report`.\nNothing would be reported.\n"
            "Write `seeds: {choose: [0], report: [0]}`."
        )
    twice = {name: seeds for name, seeds in settings.seeds.items() if len(set(seeds)) < len(seeds)}
    if twice:
        raise SettingError(
            f"`compare.seeds` is {settings.seeds}, with a seed twice under {', '.join(twice)}.\n"
            "Its prompts would count twice.\nName each seed once."
        )
    EvaluationSettings(**evaluation)
    choosing = settings.choose_tasks or evaluation["tasks"]
    leaves = _leaves(plan, [*evaluation["tasks"], *choosing])
    for name in settings.rows:  # first names, which the rest follows
        _check_names(plan, name, leaves)
    for name in settings.rows:
        _check_settings(plan, name)
    _check_overlap(plan, leaves, choosing)
    if plan.candidates is not None:
        among = plan.candidates
        _names("compare.candidates.names", among.names, settings.rows)
        _names("compare.candidates.baseline", [among.baseline], [n for n in plan.methods if n not in among.names])
        _names("compare.candidates.target", [among.target] if among.target else (), plan.models)
        on = among.target or next(iter(plan.models))
        lacking = [name for name in among.names if on not in plan.targets_of(name)]
        if lacking or not among.names:
            raise SettingError(
                f"`compare.candidates` chooses on {on}, on which {', '.join(lacking) or 'nothing'} is run.\n"
                "Candidates are compared on the same model.\nChange `target`, or the `targets` of these rows."
            )
    for number, criterion in enumerate(plan.criteria, 1):
        _check_criterion(plan, f"Criterion {number}", criterion)


def _check_names(plan: Plan, name: str, leaves: dict[str, list[str]]) -> None:
    method, where = plan.methods[name], f"compare.rows.{name}"
    _names(f"{where}.from", method.sources, [other for other in plan.methods if other not in (name, ORIGINAL)])
    _names(f"{where}.control", method.control, [other for other in plan.methods if other != name])
    _names(f"{where}.targets", method.targets or (), plan.models)
    if method.arm == "original":
        raise SettingError(
            f"`{where}` has the arm original.\nThat row is always there.\n"
            "Write edited, steered, edited+steered or prompted."
        )
    if not plan.targets_of(name):
        raise SettingError(
            f"`{where}.targets` is empty.\nThe row would be run nowhere.\nName some of {', '.join(plan.models)}."
        )
    _check_rule(method, where)
    _check_circle(plan, name)
    for other in [*method.sources, *method.control]:
        beyond = [target for target in plan.targets_of(name) if target not in plan.targets_of(other)]
        if beyond:
            raise SettingError(
                f"`{where}` is run on {', '.join(beyond)}, but {other}, which it builds on or is tested against, is "
                f"not.\nSettings are chosen, and rows compared, on the same model.\nSet `targets` of one of the two."
            )
    asked = {leaf for task in plan.config["evaluation"]["tasks"] for leaf in leaves[task]}
    if method.tasks is not None:
        _names(f"{where}.tasks", method.tasks, [*leaves, *asked])
    if method.draws < 0 or bool(method.draws) != bool(method.draw):
        raise SettingError(
            f"`{where}` has {method.draws} draws of {method.draw or 'nothing'}.\n"
            "Each draw sets one setting to its number.\nWrite, say, `draws: 20` and `draw: surgery.seed`."
        )
    own = dict(method.set) | ({method.draw: 1} if method.draw else {})
    check_names(own, f"`{where}`")
    for options in (method.choose, method.curve):
        if options is not None:
            own |= {key: None for point in grid(options, f"`{where}`") for key in point}
    unused = [key for key in own if not key.startswith(tuple(f"{part}." for part in method.parts))]
    if unused:
        raise SettingError(
            f"`{where}` sets `{unused[0]}`, which the arm {method.arm} does not use.\n"
            "It would change nothing.\nLeave it out, or take another `arm`."
        )


def _check_rule(method: Method, where: str) -> None:
    """Refuse parts of a rule that would change nothing."""
    usual = Method()
    best, chooses = method.rule == "best", method.choose is not None
    for name, used, needs in (
        ("rule", chooses, "`choose`"),
        ("at", chooses and not best, "`choose` and the rule matched"),
        ("fallback", chooses and best, "`choose` and the rule best"),
    ):
        if getattr(method, name) != getattr(usual, name) and not used:
            raise SettingError(
                f"`{where}` sets `{name}`, which needs {needs}.\nIt would change nothing.\nLeave it out."
            )


def _check_settings(plan: Plan, name: str) -> None:
    """Make the callbacks of every point: wrong names and values are found now, not after hours."""
    method = plan.methods[name]
    base = _possible(plan, name)
    chosen = [base | point for point in plan.points(name)]
    drawn = {str(method.draw): 1} if method.draw else {}
    curve = grid(method.curve, f"`curve` of {name}") if method.curve is not None else []
    for settings in [*(point | drawn for point in chosen), *(chosen[0] | drawn | point for point in curve)]:
        try:
            parts = made(dict(plan.config), settings, "sa compare")
        except SettingError as error:
            raise SettingError(f"`compare.rows.{name}`: {error}") from error
        if method.arm.startswith("edited") and not parts.surgery.wanted:
            raise SettingError(
                f"`compare.rows.{name}` edits weights, but neither `surgery.harm` nor `surgery.aligned`, "
                "`surgery.unaligned` or `surgery.direction` is set.\nThere would be nothing to subtract.\n"
                "Give `--surgery.harm HARM`, or `surgery.harm` under `set`."
            )
        if method.arm.endswith("steered") and parts.data is None:
            raise SettingError(
                f"`compare.rows.{name}` steers, but `data.demonstrations` is not set.\n"
                "Directions are fitted on demonstrations.\nGive `--data.demonstrations pairs.jsonl`."
            )
        if method.arm == "prompted" and parts.prompting is None:
            raise SettingError(
                f"`compare.rows.{name}` is prompted, but `prompting.instruction` is not set.\n"
                "It would be the original.\nWrite `prompting.instruction` under `set`, or give "
                "`--prompting.instruction TEXT`."
            )


def _possible(plan: Plan, name: str) -> Settings:
    """Settings that a row could come to: those it builds on with the first of their choices."""
    found: Settings = {}
    for source in plan.methods[name].sources:
        found |= _possible(plan, source) | plan.points(source)[0]
    return found | plan.methods[name].set


def _check_circle(plan: Plan, name: str) -> None:
    path = [name]

    def follow(at: str) -> None:
        for source in plan.methods[at].sources:
            if source == name:
                raise SettingError(
                    f"`compare.rows.{name}` takes settings from itself: {' from '.join([*path, name])}.\n"
                    "Nothing could be chosen first.\nBreak the circle."
                )
            if source in plan.methods and source not in path:
                path.append(source)
                follow(source)
                path.pop()

    follow(name)


def _check_overlap(plan: Plan, leaves: dict[str, list[str]], choosing: list[str]) -> None:
    """Refuse to choose settings by the prompts that they are reported on."""
    names = [name for name in plan.methods if plan.chooses(name)]
    if not names:
        return
    if not plan.settings.seeds.get("choose"):
        raise SettingError(
            f"{names[0]} chooses settings, but `compare.seeds.choose` is empty.\n"
            "A choice needs measurements.\nWrite `seeds: {choose: [0], report: [0]}`."
        )
    usual = plan.config["evaluation"]["metadata"].get("split")
    splits = {stage: plan.settings.splits.get(stage, usual) for stage in ("choose", "report")}
    both = {leaf for task in choosing for leaf in leaves[task]}
    both &= {leaf for task in plan.config["evaluation"]["tasks"] for leaf in leaves[task]}
    if both and splits["choose"] == splits["report"]:
        raise SettingError(
            f"Settings would be chosen by the prompts that they are reported on: {', '.join(sorted(both)[:3])}.\n"
            "What is best on some prompts looks better there than it is.\n"
            "Set `compare.splits`, as {choose: validation, report: test}, or `compare.choose_tasks`."
        )


def _check_criterion(plan: Plan, where: str, criterion: Criterion) -> None:
    stated = [name for name in Criterion.STATEMENTS if getattr(criterion, name) is not None]
    if len(stated) != 1:
        raise SettingError(
            f"{where} makes {len(stated)} statements: {', '.join(stated) or 'none'}.\n"
            f"Each is met or not.\nGive one of {', '.join(Criterion.STATEMENTS)}."
        )
    _names(f"{where}: row", [criterion.row], plan.methods)
    _names(f"{where}: against", [criterion.against], plan.methods)
    _names(f"{where}: metric", [criterion.metric], DIRECTIONS)
    _names(f"{where}: target", [criterion.target] if criterion.target else (), plan.targets_of(criterion.row))
    if criterion.task is not None:
        asked = plan.methods[criterion.row].tasks or plan.config["evaluation"]["tasks"]
        leaves = _leaves(plan, asked)
        _names(f"{where}: task", [criterion.task], [leaf for task in asked for leaf in leaves[task]])
    if criterion.statement == "percentile_of_draws":
        drawn = [name for name, method in plan.methods.items() if method.draws]
        _names(f"{where}: control", [criterion.control or "(none)"], drawn)
    elif criterion.control is not None:
        raise SettingError(
            f"{where} names the control {criterion.control}, but states {criterion.statement}.\n"
            "Draws of a control matter to `percentile_of_draws` alone.\nLeave it out, or write `against`."
        )
    if criterion.or_includes_zero and criterion.statement != "change_low":
        raise SettingError(
            f"{where} sets `or_includes_zero`, but states {criterion.statement}.\n"
            "It is about the interval of `change_low`.\nLeave it out."
        )
    on = criterion.target or plan.targets_of(criterion.row)[0]
    other = criterion.control if criterion.statement == "percentile_of_draws" else criterion.against
    if on not in plan.targets_of(str(other)):
        raise SettingError(
            f"{where} is about {criterion.row} on {on}, where {other} is not run.\nThere would be nothing to compare "
            f"with.\nAdd {on} to the `targets` of {other}, or name another row."
        )
    drawn = [name for name in (criterion.row, criterion.against) if plan.methods[name].draws]
    if drawn:
        raise SettingError(
            f"{where} is about {drawn[0]}, which is drawn {plan.methods[drawn[0]].draws} times.\n"
            "A statement is about one measurement on each seed.\n"
            "Write `percentile_of_draws`, with this row as `control`."
        )
    if criterion.statement.startswith("change") and criterion.metric not in PAIRED:
        raise SettingError(
            f"{where} states a change of {criterion.metric}, which is not compared prompt by prompt.\n"
            f"There are: {', '.join(PAIRED)}.\nName one of these, or state `at_most`."
        )
    least, most = criterion.seeds_at_least, len(plan.settings.seeds["report"])
    if least is not None and not 1 <= least <= most:
        raise SettingError(
            f"{where} asks for {least} seeds, of {most}.\nIt could never fail, or never be met.\nName 1 to {most}."
        )


def _leaves(plan: Plan, tasks: list[str]) -> dict[str, list[str]]:
    """The tasks of every name; unknown ones are refused, without their data being read."""
    from sa_lightning.evaluation.tasks.catalogue import leaves

    if not plan.config["evaluation"]["tasks"]:
        raise SettingError(
            "`evaluation.tasks` is empty.\nA row is measured by the replies to the tasks' prompts.\nName some."
        )
    return leaves(tasks, [shipped("tasks"), *plan.config["evaluation"]["task_dirs"]])


def _names(where: str, given: Iterable[Any], known: Iterable[Any]) -> None:
    there = list(known)
    for name in given:
        if name not in there:
            raise SettingError(
                f"`{where}` names {name}, which there is not.\nThere are: {', '.join(map(str, there)) or 'none'}.\n"
                "Change the name, or add what it means."
            )
