"""A Markdown text that tells whether somebody has changed it since."""

import hashlib
import re

SEAL = re.compile(r"\n<!-- sa: ([0-9a-f]{32}) -->\n\Z")


def sealed(text: str) -> str:
    """Return a Markdown text with an invisible line at its end that tells whether somebody has changed it since."""
    return f"{text}\n<!-- sa: {hashlib.sha256(text.encode()).hexdigest()[:32]} -->\n"


def is_sealed(text: str) -> bool:
    """Say whether a text is as `sealed` has returned it."""
    found = SEAL.search(text)
    return found is not None and sealed(text[: found.start()]) == text
