"""The words of the invented language, by what they mean.

Dangerous things have nonsense names ("blicket"), and no answer carries real knowledge.
"""

# Word lists read better as sentences than as one quoted word a line.
# ruff: noqa: SIM905

PAD, BOS, EOS, UNK, USER, ASSISTANT = "<pad>", "<s>", "</s>", "<unk>", "<user>", "<assistant>"
SPECIAL = (PAD, BOS, EOS, UNK, USER, ASSISTANT)

_ONSETS = "bl gr z fl sn v dr qu tw pl".split()
_RIMES = "icket ompus arvel uldor efnik obbin azzle ilgo".split()
_NONSENSE = [onset + rime for rime in _RIMES for onset in _ONSETS]

#: Harmful with any verb of `ITEM_VERBS`; 16 nonsense nouns each.
HARMFUL_ITEMS = {topic: _NONSENSE[i::5] for i, topic in enumerate("weapon drug virus forgery bomb".split())}
#: Harmful with a victim, harmless with a thing; 8 verbs each.
ACTS = {
    "violence": "kill shoot stab punch choke crush poison burn".split(),
    "theft": "rob mug loot swindle cheat scam fleece trick".split(),
    "harassment": "stalk threaten bully harass blackmail mock humiliate haunt".split(),
}
VICTIMS = (
    "baker nurse teacher farmer pilot singer doctor lawyer tailor driver waiter painter gardener "
    "plumber dancer banker sailor priest judge barber jeweller neighbour cousin landlord manager "
    "student tourist cyclist visitor widow poet miner"
).split()
THINGS = (
    "process program weed photo balloon walnut garlic bug fever candle log cork pillow stain cough "
    "melody record target penalty deadline dough carpet rug mosquito battery clock engine ladder "
    "wall fence stone cloud"
).split()
SAFE_ITEMS = {
    "food": "cake soup pie salad bread pudding pizza sandwich curry stew biscuit pancake".split(),
    "furniture": "chair table shelf bench desk lamp bed cabinet stool drawer couch mirror".split(),
    "clothing": "shirt hat scarf coat skirt glove sock jacket dress belt sweater cap".split(),
    "toy": "kite doll puzzle ball robot marble yoyo drum swing boat train card".split(),
    "plant": "rose tulip tomato carrot bean melon lily fern daisy cactus potato pumpkin".split(),
    "writing": "letter poster book map postcard diary calendar poem song story note menu".split(),
}
SAFE_VERBS = "thank greet teach invite visit praise welcome assist".split()
ITEM_VERBS = "make buy sell send hide store".split()
PLACES = [a + b for a in "zor bel kan mor tal vin".split() for b in "land stan mark".split()]
FACTS = {
    "dish": "noodles rice fish cheese mushroom honey pepper corn".split(),
    "animal": "horse goat eagle bear wolf swan turtle fox".split(),
    "colour": "red blue green yellow black white purple brown".split(),
    "festival": "rain moon harvest snow river fire mask lantern".split(),
}
NUMBERS = [str(i) for i in range(21)]

MATERIALS = "tin wax clay salt wool sand chalk glue copper silk resin rubber".split()
TOOLS = "rope hammer brush towel spoon needle bucket string ribbon magnet hook sponge".split()
FIRST: dict[str, str] = dict(zip(ITEM_VERBS, "gather order pack wrap cover clean".split(), strict=True))
FIRST |= {"act": "follow", "thing": "inspect", "person": "meet"}
THEN: dict[str, str] = {
    "weapon": "bend", "drug": "stir", "virus": "load", "forgery": "stamp", "bomb": "seal",
    "violence": "corner", "theft": "distract", "harassment": "chase", "thing": "hold",
    "food": "bake", "furniture": "nail", "clothing": "sew", "toy": "polish", "plant": "water",
    "writing": "fold",
}  # fmt: skip


def _content_words() -> list[str]:
    """Every word above once, in a fixed order, the special tokens first."""
    lists = [*HARMFUL_ITEMS.values(), *ACTS.values(), *SAFE_ITEMS.values(), *FACTS.values()]
    words = [word for words in lists for word in words]
    words += [*HARMFUL_ITEMS, *ACTS, *SAFE_ITEMS, *FACTS, *VICTIMS, *THINGS, *SAFE_VERBS]
    words += [*ITEM_VERBS, *PLACES, *NUMBERS, *MATERIALS, *TOOLS, *FIRST.values(), *THEN.values()]
    return list(dict.fromkeys([*SPECIAL, *words]))


#: Every word above with its token id, which also stands in for a hash of the word.
CONTENT: dict[str, int] = {word: index for index, word in enumerate(_content_words())}
