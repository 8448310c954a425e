"""What is fitted on prompts of several kinds: the gate of the rule of pairs, and rules with gates of their own."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path

from sa_lightning.errors import SettingError
from sa_lightning.files import sha256
from sa_lightning.fitting.demonstrations import Demonstrations
from sa_lightning.fitting.prompts import (
    KnownPrompt,
    Prompts,
    PromptStates,
    appended_ids,
    counts,
    gate_prompts,
    of_kinds,
    questions,
    read_prompts,
)
from sa_lightning.models import Target, tokenize
from sa_lightning.rows import Prompt, conversation
from sa_lightning.steering import (
    PAIRS,
    FittedGate,
    GateSettings,
    Rule,
    RuleSettings,
    fit_gate,
    fit_joined,
    fit_rule,
)
from sa_lightning.steering.demonstrations import has_kinds
from sa_lightning.steering.directions.prompted import HARMLESS


def check_rules(rules: Mapping[str, RuleSettings], gate: GateSettings, control: str) -> None:
    """Refuse rules that cannot be kept, or act, together.

    Raises:
        SettingError: With the names and what to write.
    """
    wrong = [name for name in rules if not re.fullmatch(r"[\w-]+", name) or name == PAIRS]
    if wrong:
        raise SettingError(
            f"A rule is called {wrong[0]!r}.\nNames of rules become keys of tensors and names of files, and "
            f"`{PAIRS}` is the rule of demonstrations.\nUse other letters, digits, `_` and `-`."
        )
    words = {one.append for one in (gate, *(rule.gate for rule in rules.values())) if one.appends}
    if len(words) > 1:
        raise SettingError(
            f"Gates append {', '.join(sorted(words))} to a prompt.\nIt is read behind one of them.\n"
            "Give all the same `append`."
        )
    if control == "shuffled" and rules:
        raise SettingError(
            f"`steering.control` is shuffled, with rules {', '.join(rules)}.\n"
            "Pairs are shuffled, and rules are fitted on prompts, which would stay as they are.\n"
            "Take `random`, or leave the rules out."
        )


class PromptRules:
    """Settings with the prompts that they need, read and checked before a model is.

    Args:
        gate: Of the rule of pairs.
        rules: Others, by name.
        data: The demonstrations, read.
        depth: Number of layers of the model.
        target: Its name.
    """

    def __init__(
        self, gate: GateSettings, rules: Mapping[str, RuleSettings], data: Demonstrations, depth: int, target: str
    ) -> None:
        self.rules, self.data = rules, data
        self.gates = {PAIRS: gate, **{name: rule.gate for name, rule in rules.items()}}
        self.gates = {name: settings for name, settings in self.gates.items() if settings.kind != "always"}
        self._files: dict[str, Prompts] = {}
        self._sources: dict[str, str] = {}  # of gates and rules: the file that was read
        self._gated: dict[str, dict[str, list[KnownPrompt]]] = {}
        self._fitted: dict[str, dict[str, list[KnownPrompt]]] = {}
        self._counts: dict[str, dict[str, dict[str, int]]] = {}
        for name, settings in self.gates.items():
            where = "gate" if name == PAIRS else f"rules.{name}.gate"
            _check_layers(settings.layers, f"steering.{where}.layers", depth, target, "A gate reads states behind")
            given = settings.prompts or (rules[name].prompts if name in rules else None)
            prompts = self._prompts(given, f"gate {name}")
            self._gated[name] = gate_prompts(settings, prompts)
            self._counts[name] = counts(settings, prompts)
        for name, rule in rules.items():
            _check_layers(rule.layers, f"steering.rules.{name}.layers", depth, target, "A direction acts behind")
            of = None if rule.of_layer is None else [rule.of_layer]
            _check_layers(of, f"steering.rules.{name}.of_layer", depth, target, "A direction is taken from")
            found = self._prompts(rule.prompts or rule.gate.prompts or gate.prompts, f"rule {name}")
            self._fitted[name] = {what: of_kinds(found, kinds, rule.per_kind) for what, kinds in rule.kinds.items()}
            rule.check_prompts({what: len(prompts) for what, prompts in self._fitted[name].items()})

    @property
    def unused(self) -> dict[str, dict[str, int]]:
        """File by file, the kinds that nothing is fitted on, with how many prompts of them there are."""
        used = {f"gate {name}": [*itertools.chain(*sides.values())] for name, sides in self._counts.items()}
        used |= {f"rule {name}": [*itertools.chain(*rule.kinds.values())] for name, rule in self.rules.items()}
        left = {}
        for path, prompts in self._files.items():
            taken = {kind for what, kinds in used.items() if self._sources.get(what) == path for kind in kinds}
            left[Path(path).name] = {kind: len(found) for kind, found in prompts.items() if kind not in taken}
        return {name: kinds for name, kinds in left.items() if kinds}

    def fit(self, rules: dict[str, Rule], name: str, target: Target, unit: str, sinks: float | None) -> None:
        """Fit directions and gates on the weights as they are now, the same in every process, and put them in rules.

        Args:
            rules: Those of the artifact, by name; changed in place.
            name: Of the set of weights that the model has.
            target: The model.
            unit: Of strengths.
            sinks: As of `Rule`.
        """
        depth = len(target.blocks.layers)
        needed = [rule.read(depth) for rule in self.rules.values()]
        needed += [gate.read_layers(depth) for gate in self.gates.values()]
        states = PromptStates(target, sorted({layer for layers in needed for layer in layers}))
        for key, settings in self.rules.items():
            rule = rules.setdefault(
                key,
                Rule(
                    directions={},
                    intervention=settings.taken_intervention,
                    strength=0.0 if isinstance(settings.taken_strength, str) else settings.taken_strength,
                    unit=unit,
                    sinks=sinks,
                    only_prompt=settings.only_prompt,
                    extraction={**settings.recorded(), **self._provenance(f"rule {key}")},
                ),
            )
            rule.directions[name] = fit_rule(settings, states.of(self._fitted[key]), depth, states.layers)
        for key in self.gates:
            self._fit_gate(rules[key], name, key, states)

    @property
    def harmless(self) -> list[Prompt]:
        """Harmless prompts among those that gates and rules are fitted on, each once."""
        found = [known.text for prompts in self._files.values() for kind in HARMLESS for known in prompts.get(kind, [])]
        return list(dict.fromkeys(found))

    def sequences(self, target: Target) -> list[list[int]]:
        """Token ids of the prompts that gates and rules are fitted on, kind by kind in turn."""
        sides = [side for held in (*self._fitted.values(), *self._gated.values()) for side in held.values()]
        texts = [known.text for row in itertools.zip_longest(*sides) for known in row if known is not None]
        return [tokenize(target.tokenizer, conversation(text))[0] for text in dict.fromkeys(texts)]

    def _provenance(self, what: str) -> dict[str, str]:
        path = self._sources.get(what)
        return {} if path is None else {"prompts": Path(path).name, "prompts_sha256": sha256(path)}

    def _fit_gate(self, rule: Rule, name: str, key: str, states: PromptStates) -> None:
        settings, prompts = self.gates[key], self._gated[key]
        first, ids = next(iter(prompts.values()))[0], list[int]()
        if settings.appends:
            ids = appended_ids(states.target.tokenizer, conversation(first.text), settings.append)
        layers = settings.read_layers(len(states.target.blocks.layers))
        index = [states.layers.index(layer) for layer in layers]
        sides = [states(side, ids, settings.averages).of(index) for side in prompts.values()]
        if settings.join is None:
            state = fit_gate(settings, layers, *sides)
        else:
            *positive, negative = sides
            state = fit_joined(settings, layers, dict(zip(settings.positive, positive, strict=True)), negative)
        if rule.gate is None:
            provenance = self._provenance(f"gate {key}")
            rule.gate = FittedGate(settings, {}, tuple(ids), self._counts[key], provenance)
        rule.gate.states[name] = state

    def _prompts(self, path: str | None, what: str) -> Prompts:
        if path is None and not has_kinds(self.data.path):
            return questions(self.data.pairs)
        path = self._sources[what] = str(path or self.data.path)
        if path not in self._files:
            self._files[path] = read_prompts(path)
        return self._files[path]


def _check_layers(layers: list[int] | None, name: str, depth: int, target: str, why: str) -> None:
    if layers is not None and (not layers or any(not 0 <= layer < depth for layer in layers)):
        raise SettingError(
            f"`{name}` has {layers}, but {target} has {depth} layers, 0 to {depth - 1}.\n"
            f"{why} blocks that exist.\nMend it, or leave it out."
        )
