"""Questions: what kind of reply they ask for, told by their words."""

import re

_R = re.compile
# What kind of question it is.
ASKS_YES_NO = _R(
    r"^(?:[^.?!]*[,.] )?(?:is|are|am|do|does|did|can|could|will|would|should|has|have|had|was|were|may|must)\b"
)
ASKS_WHAT = _R(
    r"^(?:what (?:is|are|was|were|does|do|did|happened|killed)|who|when|where (?:is|was|did)|define|explain|describe"
    r"|why did|why was|how did|how was|how does)\b|definition|\bmean\b"
)
ASKS_FOR_A_TEXT = _R(
    r"\b(?:write|compose|draft|create|tell|make|generate|give)\b.{0,60}\b(?:story|poem|song|dialogue|script|letter"
    r"|email"
    r"|scene|essay|text|message|monologue|haiku|limerick|note|reply|response|speech|joke|lyrics|play|novel|answer"
    r"|comeback"
    r"|conversation|tale|verse|rap|line|template|sms|post|tweet|caption"
    r"|apology|apologies|excuse|rejection|resignation|refusal|toast|eulogy|sign|announcement|statement)\b|\bsay(?:s"
    r"|ing)?\b|\bquote\b"
    r"|\b(?:monologue|review|letter|pretend|role-?play|say sorry|apologi[sz]e|turn down|break-?up)\b"
)
ASKS_FOR_A_QUOTE = _R(r"\b(?:quote|translate|say|said|example|polite|rewrite|rephrase|english)\b")
_ASKS_FOR_WORDS = _R(
    r"^(?:please )?(?:translate|rewrite|rephrase|paraphrase|convert|change|edit|fix|correct|continue|complete|finish"
    r"|summari[sz]e|role-?play|act (?:as|like)|speak (?:as|like)|talk (?:as|like)|answer as|simulate"
    r"|make the sentence|turn|construct|compose"
    r"|give (?:me )?an? (?:example|argument)"
    r"|what (?:is|are|would be) (?:an? |some )?(?:\w+ )?(?:excuse|note|caption|slogan|toast|comeback|reply|line|pun"
    r"|joke)s?)\b"
    r"|\b(?:write|compose|draft|create|make|generate|give)\b.{0,60}\b(?:diary|journal|argument|paragraph|article|blog"
    r"|sentence|slogan|tagline|headline|faq|policy|terms|blurb|description|announcement|interview|imitation|rhyme|memo"
    r"|statement|ad|advert\w*)\b"
)
ASKS_FOR_A_REFUSAL = _R(
    r"\b(?:apolog\w+|say sorry|excuses?|reject\w*|refus\w+|declin\w+|turn down|resign\w*|say no|break-?up|regrets?"
    r"|cancel\w*)\b"
)
IS_A_TEXT = _R(r'^["(]|^quote\b|^(?:subject|dear|hi|hello|hey|title|scene|[a-z]+:)')
_COMMON = set(
    re.findall(
        r"\w+",
        "about could does from have help here into like make some such that their them there these they thing things "
        "this want what when where which will with would your",
    )
)


def asks_for_words(question: str) -> bool:
    """Whether a normalised question asks for a text, in which somebody else may speak."""
    return bool(ASKS_FOR_A_TEXT.search(question) or _ASKS_FOR_WORDS.search(question))


def long_words(text: str) -> set[str]:
    """Return the words of four letters or more of a normalised text that say what it is about."""
    return set(re.findall(r"[a-z]{4,}", text)) - _COMMON
