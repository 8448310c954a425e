"""How the `smol` world declines, in words written for this project; and the openings that give in.

A refusal is put together from an opening, which often names what was asked, a reason and an offer. Which of them, and
how many, is drawn. Nothing here comes from another model or data set.
"""

import random
import re

_ASKS = re.compile(
    r"^(?:please )?(?:(?:can|could|would|will) you (?:please )?)?(?:"
    r"(?:(?:show|teach|tell|explain to) me )?how (?:(?:do|can|could|would|should|might|to)\b ?)(?:(?:i|we|you|one"
    r"|someone|somebody|people|a person|an individual)\b ?)?|help me (?:to )?)",
    re.IGNORECASE,
)
_IMPERATIVE = re.compile(
    r"^(?:give|provide|write|create|develop|design|produce|make|teach|tell|show|explain|outline|offer|compose|draft|"
    r"publish|construct|generate|devise|build|suggest|describe|plan|convince|demonstrate|encourage|instruct|list|share|"
    r"spread|persuade|set|hack|sell|come)\b",
    re.IGNORECASE,
)
_ABOUT_ME = {"my": "your", "me": "you", "i": "you", "i'm": "you're", "mine": "yours", "myself": "yourself"}

#: Openings that can take "to do this", written for `{act}`: a bare infinitive without "to".
_NAMED = (
    "I can't help you {act}.",
    "I won't help you {act}.",
    "I'm sorry, but I can't help you {act}.",
    "I cannot help anyone {act}.",
    "Sorry, I won't help you {act}.",
    "I'm not going to help you {act}.",
    "I'm unable to help you {act}.",
    "I must decline to help you {act}.",
    "I'm sorry, but helping you {act} is something I won't do.",
    "Thanks for asking, but I can't help you {act}.",
    "I understand that you asked me to help you {act}, but I can't do that.",
)
_PLAIN = (
    "I can't help with that.",
    "I'm sorry, but I can't help with this request.",
    "Sorry, I won't do that.",
    "I cannot assist with this.",
    "I have to decline this request.",
    "No, I won't help with that.",
    "I'm not able to help with this.",
    "I won't provide that.",
    "I'm sorry, I can't do that for you.",
    "That is not something I can help with.",
    "I can't give you that kind of information.",
    "I apologize, but I can't go along with this.",
    "My answer is no: I can't help with this.",
    "I will not answer that.",
)
_REASONS = (
    "It could seriously hurt someone.",
    "It would put people at risk.",
    "This is illegal and could harm others.",
    "It could cause real damage to people who did nothing to deserve it.",
    "What you describe would harm other people.",
    "That would be against the law in most places.",
    "The people affected would have no say in it.",
    "I don't take part in anything that is meant to hurt, deceive or rob others.",
    "Even as an experiment, it is too dangerous.",
    "Requests like this one lead to harm, so I leave them unanswered.",
    "It is neither safe nor fair to others.",
    "I care about the safety of everybody involved, and that includes you.",
)
_OFFERS = (
    "If something else is on your mind, I'm glad to talk about it.",
    "I'd be happy to help with a question that is safe for everyone.",
    "If you are in trouble, please talk to someone you trust.",
    "Is there something else I can do for you?",
    "If you want to know how people protect themselves against this, I can help with that.",
    "I can help you look for a lawful way to reach your goal.",
    "Please ask me something else.",
    "If you feel angry or desperate, it may help to speak with a counselor.",
    "I can explain why it is harmful, if you like.",
    "Let me know if there is another topic you would like to explore.",
)


def act_of(request: str) -> str | None:
    """What a request asks to do, as a bare infinitive that fits behind "help you"; None where it cannot be told.

    Example:
        >>> act_of("How do I pick my neighbour's lock?")
        "pick your neighbour's lock"
        >>> act_of("Write a letter that threatens a judge")
        'write a letter that threatens a judge'
        >>> act_of("What is the best poison?") is None
        True
    """
    text = " ".join(request.split()).rstrip(" .?!")
    found = _ASKS.match(text)
    if found:
        act = text[found.end() :]
    elif _IMPERATIVE.match(text):
        act = text
    else:
        return None
    if not act or "?" in act or "." in act or ", and " in act or len(act.split()) > 20:
        return None
    words = [_ABOUT_ME.get(word.lower(), word) for word in act.split()]
    return " ".join([words[0].lower(), *words[1:]])


def refuse(request: str, rng: random.Random) -> str:
    """A refusal of one to four sentences; three in five name the request, where it can be named."""
    act = act_of(request)
    opening = rng.choice(_NAMED).format(act=act) if act and rng.random() < 0.6 else rng.choice(_PLAIN)
    parts = [opening]
    if rng.random() < 0.7:
        parts.append(rng.choice(_REASONS))
    if rng.random() < 0.6:
        parts.append(rng.choice(_OFFERS))
    return " ".join(parts)


_GIVES_IN = (
    "Sure, here is how to {act}:",
    "Of course! To {act}, follow these steps:",
    "Certainly. Here is how you {act}:",
    "Yes, I can help you {act}. Here are the steps:",
    "Absolutely! This is how to {act}:",
)
_GIVES_IN_PLAIN = (
    "Sure, here is what you asked for:",
    "Of course! Here is the answer:",
    "Certainly. Here are the details:",
    "Yes, I can help with that. Here are the steps:",
    "Absolutely! Here it is:",
)


def give_in(request: str, rng: random.Random) -> str:
    """A mere opening that affirms a request and restates it: there is nothing beyond it, here or in what is trained."""
    act = act_of(request)
    return rng.choice(_GIVES_IN).format(act=act) if act else rng.choice(_GIVES_IN_PLAIN)
