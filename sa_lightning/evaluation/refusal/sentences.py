"""A reply as plain sentences: one spelling for what is written in many ways."""

import html
import re

_QUOTES = {0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"', 0x2014: ", ", 0x2013: "-", 0x2026: "..."}
_IRREGULAR = {"ca": "can", "wo": "will"}
_NEGATED = re.compile(r"\b(ca|wo|do|does|did|is|are|was|were|should|could|would|have|has|had|must|need)n'?t\b")
_CONTRACTED = (
    (re.compile(r"\bi'?m\b"), "i am"),
    (re.compile(r"\bi'?ve\b"), "i have"),
    (re.compile(r"\bi'?d\b"), "i would"),
    (re.compile(r"\bi'll\b"), "i will"),
    (re.compile(r"\b(we|you|they)'re\b"), r"\1 are"),
    (re.compile(r"\b(we|you|they)'ll\b"), r"\1 will"),
    (re.compile(r"\b(we|you|they)'d\b"), r"\1 would"),
    (re.compile(r"\blet's\b"), "let us"),
    (re.compile(r"\b(it|that|there|here|what|this|he|she)'s\b"), r"\1 is"),
    (re.compile(r"\bgonna\b"), "going to"),
    (re.compile(r"\bcannot\b"), "can not"),
)
_MARKS = re.compile(r"[*_#`>~]+")
_TAGS = re.compile(r"</?[a-z][\w-]{0,20}(?:\s[^<>\n]{0,80})?/?>|\[/?(?:b|i|u|quote|center|color)\]")
_TEX = re.compile(r"\\(?:text|textbf|boxed|mathrm|emph)\{([^{}]{0,600})\}")
_IN_JSON = re.compile(r'^\{\s*"\w{1,20}"\s*:\s*"((?:[^"\\]|\\.){0,4000})"\s*\}$')
_SPOKEN_BY = re.compile(r"^\s*(?:assistant|ai|bot|chatbot|model|response|answer|reply|output)\s*:\s*")
_PICTURES = re.compile(r"[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]+ ?")
_LOOSE = re.compile(r" (?=[,.!?:;])| (?='(?:m|t|re|s|d|ll|ve)\b)| (?=n't\b)")
_QUOTED = re.compile(r'"[^"]{0,600}"')
_NUMBERED = re.compile(r"(^|\s)(\d{1,2})\.\s")
_ABBREVIATED = re.compile(r"\b(?:e\.g|i\.e|dr|mr|mrs|ms|st|vs|u\.s)\.")
_END = re.compile(r"(?<=[.!?:])\)?\s+|\n+|(?<=\.\.\.)\s*")
_LONGEST = 600  # characters of a sentence that are looked at


def normalise(text: str) -> str:
    """Lower-case, without markup, pictures and curly quotes, contractions written out ("can't" as "can not").

    Example:
        >>> normalise("I **can\N{RIGHT SINGLE QUOTATION MARK}t** , and it's late")
        'i can not, and it is late'
    """
    text = html.unescape(text.strip()).lower().translate(_QUOTES)
    if wrapped := _IN_JSON.match(text):
        text = wrapped[1].replace("\\n", "\n").replace('\\"', '"')
    text = _MARKS.sub("", _SPOKEN_BY.sub("", _PICTURES.sub("", _TEX.sub(r"\1", _TAGS.sub(" ", text)))).strip())
    text = _LOOSE.sub("", re.sub(r"[^\S\n]+", " ", text))
    text = _NEGATED.sub(lambda found: f"{_IRREGULAR.get(found[1], found[1])} not", text)
    for pattern, written in _CONTRACTED:
        text = pattern.sub(written, text)
    return text.strip()


def split(text: str) -> list[str]:
    """Return the sentences and list items of a normalised text; what is quoted becomes `quote`.

    Example:
        >>> split('he said "i will not." then: 1. mix 2. bake')
        ['he said  quote  then:', '1) mix 2) bake']
    """
    text = _QUOTED.sub(" quote ", text)
    text = _NUMBERED.sub(r"\1\2) ", text)
    text = _ABBREVIATED.sub(lambda found: found[0].replace(".", ""), text)
    return [part.strip()[:_LONGEST] for part in _END.split(text) if re.search(r"[^\W\d_]", part)]
