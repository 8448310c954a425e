"""The table of formats: who reads each, what it can say, and so what is refused and which format comes nearest."""

from collections.abc import Sequence
from dataclasses import dataclass

from sa_lightning.errors import ArtifactError, NothingToDoError
from sa_lightning.export.acts import ALMOST_STEPS, KINDS, Act, acts_of, as_step, merged
from sa_lightning.steering import Rule, SteeringArtifact

ALL_SITES = frozenset({"residual", "mlp", "attention"})


@dataclass(frozen=True)
class Format:
    """What a format can say.

    Attributes:
        reader: Who reads it.
        kinds: Kinds of acts (`KINDS`), each by itself unless `mixed`.
        sites: Outputs of a block that it can change.
        first: The first block that it can name.
        mixed: Whether one file may hold acts of several kinds.
        prompt_alone: Whether it can leave replies alone.
        suffix: Of the file that is written; a directory without one.
    """

    reader: str
    kinds: frozenset[str]
    sites: frozenset[str] = frozenset({"residual"})
    first: int = 0
    mixed: bool = False
    prompt_alone: bool = False
    suffix: str = ""


STEP = frozenset({"step"})
FORMATS = {
    "lm_eval": Format("lm-eval's `steered`", STEP | {"ablation", "coordinate"}, ALL_SITES, mixed=True, suffix=".pt"),
    "checkpoint": Format("every engine that loads the family's checkpoints", STEP, ALL_SITES),
    "gguf": Format("llama.cpp", STEP, first=1, suffix=".gguf"),
    "repeng": Format("repeng", STEP | {"step_keep_norm"}, suffix=".gguf"),
    "steering-vectors": Format("steering-vectors", STEP, ALL_SITES, suffix=".safetensors"),
    "safetensors": Format("any program that adds vectors", STEP, ALL_SITES, suffix=".safetensors"),
    "vllm-lens": Format("vllm-lens", STEP | {"relative_step"}, mixed=True, suffix=".json"),
    "hotwire": Format("hotwire-vllm", STEP),
    "easysteer": Format("EasySteer", STEP | {"step_keep_norm", "ablation"}, mixed=True, prompt_alone=True),
    "vllm-hook": Format("vLLM-Hook", STEP | {"ablation"}, mixed=True),
}


@dataclass(frozen=True)
class Objection:
    """Something about an artifact that a format cannot say.

    Attributes:
        what: For people.
        instead: What an approximation does in its place; None where none would mean anything.
        refit: The option of `sa fit` after which there would be nothing to object to; none where there is none.
    """

    what: str
    instead: str | None = None
    refit: str = ""


@dataclass(frozen=True)
class Spoken:
    """An artifact in the words of a format.

    Attributes:
        acts: What is written, one act a place.
        prompt_alone: Whether replies are left alone.
        approximated: What is not as the artifact has it, for people; empty where it is exact.
    """

    acts: tuple[Act, ...]
    prompt_alone: bool = False
    approximated: tuple[str, ...] = ()


def objections(artifact: SteeringArtifact, weights: str, to: str) -> list[Objection]:
    """Return what a format cannot say of an artifact; nothing if it is exact."""
    found: list[Objection] = []
    rules, form = artifact.rules, FORMATS[to]
    acts = {name: acts_of(rule, weights) for name, rule in rules.items()}
    every = [act for held in acts.values() for act in held]
    if len(rules) > 1 and ({act.kind for act in every} != {"step"} or len({act.site for act in every}) > 1):
        found.append(Objection(f"several rules, {', '.join(rules)}, that do not add up to one step"))
    for rule in rules.values():
        found += _of_rule(rule, form)
    for act in every:
        if act.kind not in form.kinds:
            instead = "a step of that length at a typical norm" if act.kind in ALMOST_STEPS else None
            able = [kind for kind in (act.kind, "step") if kind in form.kinds]
            refit = "--steering.intervention add_absolute" if able else ""
            found.append(Objection(f"{act.said}: {KINDS[act.kind]}", instead, refit))
            break
    if len({act.kind for act in every}) > 1 and not form.mixed:
        found.append(Objection("acts of several kinds in one file"))
    if any(act.layer < form.first for act in every):
        found.append(Objection("a step behind block 0", "nothing there", "--steering.layers"))
    return found


def _of_rule(rule: Rule, form: Format) -> list[Objection]:
    found: list[Objection] = []
    if rule.gate is not None:
        found.append(
            Objection(f"the gate `{rule.gate.settings.kind}`", "every prompt is steered", "--steering.gate.kind always")
        )
    if rule.site not in form.sites:
        found.append(Objection(f"the {rule.site} output of a block", None, "--steering.site residual"))
    if rule.only_prompt and not (form.prompt_alone and rule.whole_prompt):
        found.append(Objection("replies left alone", "replies are steered, too", "--steering.only_prompt false"))
    if rule.sinks is not None:
        found.append(
            Objection(
                f"states over {rule.sinks:g} typical norms left alone, such as the first token of a prompt",
                "these are moved, too",
                "--steering.sinks null",
            )
        )
    return found


def spoken(artifact: SteeringArtifact, weights: str, to: str, approximate: bool = False) -> Spoken:
    """Say an artifact in the words of a format.

    Args:
        artifact: With a set of directions for these weights.
        weights: `original` or `edited`.
        to: A name in `FORMATS`.
        approximate: Say what comes near where the format cannot say it.

    Raises:
        ArtifactError: If the format cannot say it, or the artifact has no such set; it names the nearest that can.
        NothingToDoError: If no layer is steered.
    """
    if weights not in artifact.fingerprints:
        raise ArtifactError(
            f"The artifact has no directions for `{weights}` weights, only for {', '.join(artifact.fingerprints)}.\n"
            "Directions belong to the weights they were fitted on.\nChoose one that is there: `--weights`."
        )
    found = objections(artifact, weights, to)
    if found and not (approximate and all(one.instead for one in found)):
        raise ArtifactError(_refusal(artifact, weights, to, found))
    acts: list[Act] = []
    for rule in artifact.rules.values():
        rule = rule if rule.gate is None else rule.ungated()
        for act in acts_of(rule, weights):
            known = act.kind in FORMATS[to].kinds
            acts.append(act if known else as_step(act, rule, weights))
    acts = [act for act in merged(acts) if act.layer >= FORMATS[to].first]
    if not acts:
        raise NothingToDoError(
            "No layer of this artifact is steered: every strength is 0, or none has a direction.\n"
            "The export would change nothing.\nFit with another `--steering.strength`."
        )
    alone = FORMATS[to].prompt_alone and all(rule.only_prompt for rule in artifact.rules.values())
    return Spoken(tuple(acts), alone, tuple(f"{one.what}; instead, {one.instead}" for one in found))


def nearest(artifact: SteeringArtifact, weights: str, others_than: Sequence[str] = ()) -> dict[str, list[Objection]]:
    """Return the formats that come nearest to an artifact, with what each cannot say: of exact ones, nothing."""
    found = {name: objections(artifact, weights, name) for name in FORMATS if name not in others_than}
    least = min(len(one) for one in found.values())
    return {name: one for name, one in found.items() if len(one) == least}


def elsewhere(acts: Sequence[Act], others_than: Sequence[str] = ()) -> list[str]:
    """Return the formats that have words for all of these acts."""
    return [
        name
        for name, form in FORMATS.items()
        if name not in others_than
        and all(act.kind in form.kinds and act.site in form.sites and act.layer >= form.first for act in acts)
    ]


def _refusal(artifact: SteeringArtifact, weights: str, to: str, found: list[Objection]) -> str:
    near = nearest(artifact, weights, [to])
    exact = not next(iter(near.values()))
    names = ", ".join(f"`{name}`" for name in near)
    refits = list(dict.fromkeys(one.refit for one in found if one.refit))
    remedies = [f"Use `--to` {names}, which can say all of it"] if exact else []
    if refits:
        fit = " and ".join(f"`{refit}`" for refit in refits)
        remedies.append(f"fit with {fit}" if remedies else f"Fit with {fit}")
    if all(one.instead for one in found):
        remedies.append("let it come near, `--approximate true`, which prints how far it is off")
    remedies.append("or steer as measured, with `steer` in Python or `sa lm-eval run --model sa`")
    few = " and ".join(one.what for one in next(iter(near.values()))[:2])
    why = "An approximation would not be what was measured."
    if not exact:
        why += f"\nNearest comes {names}, which cannot say {few} either."
    remedy = "; ".join(remedies)
    return (
        f"`--to {to}` ({FORMATS[to].reader}) cannot express {'; nor '.join(one.what for one in found)}.\n"
        f"{why}\n{remedy[:1].upper()}{remedy[1:]}."
    )
