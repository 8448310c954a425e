"""Thoughts: what a reasoning model writes before its answer, in the notations of many models, taken off.

Only what follows the thought is the reply. A thought that never ends leaves no reply: it was cut off inside. Marks are
text here; where they are special tokens of a tokenizer, `is_mark` tells those that decoding must keep.
"""

import re

_NAME = (
    r"(?:\w{1,20}[:_-])?(?:think(?:ing)?|thoughts?|thought[_ -]?process|reason(?:ing)?|reflection|reflect|scratch_?pad"
    r"|analysis|inner[_ -]?(?:monologue|thoughts?)|monologue|deliberation|rationale|cot|chain[_ -]of[_ -]thought"
    r"|internal|hidden)"
)
_OPENS = rf"(?:(?:begin|start)[_ ](?:of[_ ])?)?{_NAME}"
_ENDS = rf"(?:/\s{{0,4}}{_NAME}|end[_ ](?:of[_ ])?{_NAME})"
# <think>, <|begin_of_thought|>, [THINK], \u25c1think\u25b7, with attributes or without; not in `code`.
# In square brackets, where headings stand, too, only the word that reasoning models write.
_SQUARE = r"\[\s{0,4}%s(?:think|thinking)\s{0,4}\]"


def _mark(name: str, square: str) -> re.Pattern[str]:
    angled = rf"<[|\uff5c]?{name}(?:\s[\w-]{{1,30}}=[^<>\n]{{0,80}})?[|\uff5c]?>"
    ways = (angled, _SQUARE % square, rf"\u25c1\s{{0,4}}{name}\s{{0,4}}\u25b7")
    return re.compile(rf"(?<!`)(?:{'|'.join(ways)})(?!`)", re.IGNORECASE)


_OPENING, _CLOSING = _mark(_OPENS, ""), _mark(_ENDS, "/")
_BESIDE = re.compile(r"<\|(?:start|message|end|call)\|>")  # of Harmony, which mean other things elsewhere
# Harmony, and its kin: channels, of which one is final. Decoding without special tokens leaves the bare words.
_CHANNEL = re.compile(
    r"(?:<\|start\|>\s*assistant\s*)?<\|?channel\|?>\s*(\w+)[^<\n]{0,80}(?:<\|?message\|>|<channel\|>|\n)"
)
_BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z\"'.])")
_BARE_FINAL = re.compile(r"assistant\s*final(?=[\W_]|[A-Z]|\d|$)")
_HARMONY_ENDS = re.compile(r"<\|(?:end|return|call|start)\|>(?:assistant)?|<channel\|>")
# "Here is my thought process: ... Here is my response: ..." (Granite 3.2), "Thought: ... Answer: ...", the like as
# headings.
_SPOKEN = re.compile(
    r"\s*(?:here(?:'s| is) my thought process|[*#_ ]{0,6}(?:my )?(?:thoughts?|thinking|reasoning|internal reasoning"
    r"|chain of thought|thought process)[*_ ]{0,4})\s*:\s*[*_]{0,4}",
    re.IGNORECASE,
)
_SPOKEN_ENDS = re.compile(
    r"(?:^|\n|(?<=[.!?]) )\s*(?:here(?:'s| is) my (?:final )?(?:response|answer)|[*#_ ]{0,6}(?:final |my )?"
    r"(?:answer|response|reply|output)[*_ ]{0,4})\s*:\s*[*_]{0,4}",
    re.IGNORECASE,
)
# A thought whose opening mark stands in the prompt begins so; nobody answers so.
_TALKS_ABOUT_THE_USER = re.compile(
    r"\s*(?:(?:okay|ok|alright|all right|hmm+|so|well|let me (?:think|see)[^.!?\n]{0,30}|first)[,.: ]\s*){0,3}"
    r"(?:the user(?:'s (?:request|question|message|prompt)| is asking| wants| asks| asked| has asked| said| says"
    r"| seems| is requesting| requests| would like| just)\b|we need to (?:decide|respond|answer|produce|refuse|comply"
    r"|determine|figure|check|consider|follow|be careful|output)\b|i need to (?:figure out|work out) (?:how to respond"
    r"|what the user)\b)",
    re.IGNORECASE,
)
_WRAPPED = re.compile(
    r"\s*(?:<\|?(?:begin_of_|start_)?(?:answer|response|solution|output|final)(?:_answer)?\|?>"
    r"|\[(?:ANSWER|RESPONSE)\])\s*|\s*(?:<\|?/?\s?(?:end_of_|end_)?(?:answer|response|solution|output|final)"
    r"(?:_answer)?\|?>|\[/(?:ANSWER|RESPONSE)\])\s*",
    re.IGNORECASE,
)


def answer(reply: str, *, opened: bool = False) -> str | None:
    r"""Return what a reply says outside its thoughts, or None where a thought never ends.

    Marks between backticks are spoken of, not used. Text of a few words before a thought that never ends is no
    reply, either.

    Args:
        reply: What the model wrote.
        opened: Whether the prompt already holds the opening mark, as some chat templates end with one.

    Example:
        >>> answer("<think>Is it safe? Yes.</think>Mix the flour.")
        'Mix the flour.'
        >>> answer("Is it safe? Yes.</think>Mix the flour.")
        'Mix the flour.'
        >>> answer("<think>Is it") is None
        True
        >>> answer("<|channel|>analysis<|message|>Safe.<|end|><|start|>assistant<|channel|>final<|message|>Mix it.")
        'Mix it.'
    """
    text = behind(reply, opened=opened)
    if text is None:
        return None
    if text is reply:
        if (spoken := _of_labels(text)) is not text:
            return spoken
        if _TALKS_ABOUT_THE_USER.match(text):
            return None
    return _WRAPPED.sub(" ", text).strip()


def behind(reply: str, *, opened: bool = False) -> str | None:
    """Return what stands outside of marked thoughts, None where one never ends; without marks, the reply itself.

    What `answer` does, but for thoughts that no mark tells.
    """
    channels = _of_channels(reply)
    if channels is not reply:
        return channels
    whole = reply
    if closings := list(_CLOSING.finditer(reply)):
        first = _OPENING.search(reply)
        if first is None or first.start() > closings[0].start():  # the opening mark stands in the prompt
            reply = reply[closings[0].end() :]
    elif opened:
        return None
    said, rest = [], reply
    while opening := _OPENING.search(rest):
        before = rest[: opening.start()]
        said.append(before)
        closing = _CLOSING.search(rest, opening.end())
        if closing is None:
            return None if len(" ".join(said).split()) < 12 else " ".join(said).strip()
        # A mark of the same kind inside a thought opens nothing.
        rest = rest[closing.end() :]
    text = "".join([*said, rest])
    # A closing mark that is left over ends a thought, too.
    if left := list(_CLOSING.finditer(text)):
        text = text[left[-1].end() :]
    return whole if text == whole else text


def open_mark(prompt: str) -> str:
    """Return the mark that opens a thought and ends a prompt, with the blanks behind it; empty if none does.

    Some chat templates end so. The reply then holds no such mark: put this one before it.

    Example:
        >>> open_mark("<assistant><think> "), open_mark("<assistant><think></think>")
        ('<think> ', '')
    """
    last = next(iter([*_OPENING.finditer(prompt[-200:])][-1:]), None)
    return prompt[-200:][last.start() :] if last and not prompt[-200:][last.end() :].strip() else ""


def is_mark(token: str) -> bool:
    """Say whether a special token opens or closes a thought, or names a channel."""
    return bool(_OPENING.fullmatch(token) or _CLOSING.fullmatch(token) or re.fullmatch(r"<\|?channel\|?>", token))


def goes_with_marks(token: str) -> bool:
    """Say whether a special token is to be kept beside marks: it parts channels, or frames the answer."""
    return bool(_BESIDE.fullmatch(token) or _WRAPPED.fullmatch(token))


def _of_channels(reply: str) -> str | None:
    """What stands in the final channel; the reply itself where there are no channels, None where none is final."""
    if marks := list(_CHANNEL.finditer(reply)):
        ends = [*(mark.start() for mark in marks[1:]), len(reply)]
        final = [
            reply[mark.end() : end]
            for mark, end in zip(marks, ends, strict=True)
            if mark[1].lower() in ("final", "response", "answer")
        ]
        if not final and (behind := re.search(r"<channel\|>(?!.*<\|?channel)", reply, re.DOTALL)):
            final = [reply[behind.end() :]]  # a thought in a channel, and the answer bare behind it
        return _HARMONY_ENDS.sub(" ", " ".join(final)).strip() if final else None
    if _BARE_ANALYSIS.match(reply):
        ends = list(_BARE_FINAL.finditer(reply))
        return reply[ends[-1].end() :].strip() if ends else None
    return reply


def _of_labels(reply: str) -> str | None:
    """What follows a label such as `Answer:` behind one such as `Thought:`; the reply itself where there is none."""
    if not _SPOKEN.match(reply):
        return reply
    ends = list(_SPOKEN_ENDS.finditer(reply))
    if ends:
        return reply[ends[-1].end() :].strip()
    return None if reply.strip().lower().startswith("here") else reply
