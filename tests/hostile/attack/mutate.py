"""What is done to bytes and to JSON, by a seeded draw."""

import json
import random

VALUES = [
    None, True, False, 0, -1, 7, 1e308, -1e308, float("nan"), float("inf"), "x", "", "../x", [], {}, [[]], {"a": {}}, "\ud800",
    10**400, [1, "a"], "0.3", 3.5, "\x1b[31m", "a" * 5000, [None], {"": None},
]  # fmt: skip


def flipped(content: bytes, draw: random.Random, most: int = 3, within: int | None = None) -> bytes:
    """Flip one bit or some."""
    found = bytearray(content)
    for _ in range(draw.randint(1, most)):
        if found:
            found[draw.randrange(min(len(found), within or len(found)))] ^= 1 << draw.randrange(8)
    return bytes(found)


def cut(content: bytes, draw: random.Random) -> bytes:
    """Cut the end off, take out a piece, double one, or put bytes in between."""
    if not content:
        return b"\0"
    start = draw.randrange(len(content))
    stop = min(len(content), start + draw.choice([1, 2, 9, 80, 900]))
    piece = draw.choice(
        [b"", content[start:stop] * 2, b"\0", b"\xff\xfe", b"\r\n", "\u2028".encode(), b"[" * 3000, b"9" * 5000]
    )
    return draw.choice([content[:start], content[:start] + piece + content[stop:], content[:start] + content[stop:]])


def changed(found: object, draw: random.Random, times: int = 1) -> object:
    """Change, drop, add or exchange values of JSON, anywhere."""
    for _ in range(times):
        places: list[tuple] = []

        def walk(value: object, places=places) -> None:
            items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for key, inner in items:
                places.append((value, key))
                walk(inner)

        walk(found)
        if not places:
            return draw.choice(VALUES)
        holder, key = draw.choice(places)
        what = draw.random()
        if what < 0.2:
            del holder[key]
        elif what < 0.3 and isinstance(holder, dict):
            holder[draw.choice(["x", "", str(key) + "s", "../x"])] = holder.pop(key)
        elif what < 0.4:
            other, name = draw.choice(places)
            if name in other if isinstance(other, dict) else name < len(other):
                holder[key] = json.loads(json.dumps(other[name]))
        elif what < 0.5 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * draw.choice([-1, 2, 1000, 1e30])
        else:
            holder[key] = draw.choice(VALUES)
    return found


def drawn(seed: int, number: int) -> random.Random:
    """The draw of a case, by its number alone."""
    return random.Random(f"{seed} {number}")
