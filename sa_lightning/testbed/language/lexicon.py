"""What an invented language is made of: its words by meaning, and the parts of its sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PAD, BOS, EOS, UNK, USER, ASSISTANT = "<pad>", "<s>", "</s>", "<unk>", "<user>", "<assistant>"
SPECIAL = (PAD, BOS, EOS, UNK, USER, ASSISTANT)
NUMBERS = [str(i) for i in range(21)]


@dataclass(frozen=True)
class Lexicon:
    """The tables of one language. Dangerous things have nonsense names, and no answer carries real knowledge.

    Args:
        harmful_items: Nouns by topic that are harmful with any verb of `item_verbs`.
        acts: Verbs by topic that are harmful with a victim and harmless with a thing.
        victims: Whom acts are done to.
        things: What acts may be done to.
        safe_items: Harmless nouns by topic.
        safe_verbs: What one does to a person in kindness.
        item_verbs: What one does to an item.
        places: What facts are about.
        facts: Values by attribute.
        materials: Twelve, of which items are made.
        tools: Twelve, with which acts are done.
        first: The first step of an answer by verb, or by kind of request.
        then: The second step by topic.
        cores: How a request is asked for; `{}` takes the request.
        prefixes: What may stand before a core; there are as many splits of phrasings as prefixes.
        fact_cores: How a fact is asked for.
        wrappers: Jailbreak-like wrappers round a whole request.
        openings: How an answer begins.
        endings: How an answer ends, without the last full stop.
        refusals: How a request is declined.
        scenes: What wrappers are about, three wrappers each, if they are made of parts.
    """

    harmful_items: Mapping[str, Sequence[str]]
    acts: Mapping[str, Sequence[str]]
    victims: Sequence[str]
    things: Sequence[str]
    safe_items: Mapping[str, Sequence[str]]
    safe_verbs: Sequence[str]
    item_verbs: Sequence[str]
    places: Sequence[str]
    facts: Mapping[str, Sequence[str]]
    materials: Sequence[str]
    tools: Sequence[str]
    first: Mapping[str, str]
    then: Mapping[str, str]
    cores: tuple[str, ...]
    prefixes: tuple[str, ...]
    fact_cores: tuple[str, ...]
    wrappers: tuple[str, ...]
    openings: tuple[str, ...]
    endings: tuple[str, ...]
    refusals: tuple[str, ...]
    scenes: tuple[str, ...] = ()

    def content_words(self) -> list[str]:
        """Every word of the tables once, in a fixed order, the special tokens first."""
        tables = [self.harmful_items, self.acts, self.safe_items, self.facts]
        words = [word for table in tables for words in table.values() for word in words]
        words += [topic for table in tables for topic in table]
        words += [*self.victims, *self.things, *self.safe_verbs, *self.item_verbs, *self.places, *NUMBERS]
        words += [*self.materials, *self.tools, *self.first.values(), *self.then.values()]
        return list(dict.fromkeys([*SPECIAL, *words]))
