"""Types of options as the help writes them, such as `Optional[list[int]]`: does a value fit, and what would?"""

import ast
import re
from collections.abc import Callable, Container, Mapping, Sequence
from functools import lru_cache
from typing import Any

#: What a class of ours takes, by its name: option to type; None for other classes.
Fields = Callable[[str], Mapping[str, str] | None]

_LISTS = ("list", "List", "Sequence", "Iterable", "set")
_DICTS = ("dict", "Mapping", "Dict")
_NULL = ("null", "None", "NoneType")
_EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+")


def fits(value: Any, kind: str, fields: Fields, *, typed: bool = False) -> bool:
    """Whether a value is of a type, as jsonargparse has it.

    Args:
        value: Of a config, or what was typed.
        kind: The type as the help writes it.
        fields: Looks up classes.
        typed: Whether it was typed: text, which may be YAML.
    """
    return _fits(value, _tree(kind), fields, typed)


def read(text: str) -> Any:
    """What a typed text says as YAML; itself, where it is none."""
    import yaml

    if not text.strip():
        return text
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    return float(found) if isinstance(found, str) and _EXPONENT.fullmatch(found) else found


def in_words(kind: str) -> str:
    """Say what a type takes: "a whole number or nothing (`null`)"."""
    return _words(_tree(kind))


def within(kind: str, keys: Sequence[str], fields: Fields) -> str | None:
    """The type of what is set inside a value, as `gate.kind` of a rule; None where that is not known."""
    if not keys:
        return kind
    for node in _choices(_tree(kind)):
        inside = _inside(node)
        if _head(node) in _DICTS and len(inside) == 2:
            return within(ast.unparse(inside[1]), keys[1:], fields)
        known = fields(_head(node)) or {}
        for count in range(len(keys), 0, -1):
            if ".".join(keys[:count]) in known:
                return within(known[".".join(keys[:count])], keys[count:], fields)
    return None


def is_list(kind: str) -> bool:
    """Whether a list is of the type."""
    return any(_head(node) in _LISTS for node in _choices(_tree(kind)))


def words_of(kind: str) -> list[Any]:
    """The words that a type allows, if it is one of words alone, or nothing."""
    found = [node for node in _choices(_tree(kind)) if _head(node) not in _NULL]
    return [ast.literal_eval(word) for node in found if _head(node) == "Literal" for word in _inside(node)]


@lru_cache(maxsize=512)
def _tree(kind: str) -> ast.expr:
    try:
        return ast.parse(kind, mode="eval").body
    except SyntaxError:
        return ast.Name("Any")  # a type that the help cannot write


def _choices(node: ast.expr) -> list[ast.expr]:
    """The members of a union, and else the type alone."""
    if isinstance(node, ast.BinOp):
        return [*_choices(node.left), *_choices(node.right)]
    if _head(node) == "Union":
        return [one for inner in _inside(node) for one in _choices(inner)]
    if _head(node) == "Optional":
        return [*_choices(_inside(node)[0]), ast.Name("null")]
    return [node]


def _head(node: ast.AST) -> str:
    if isinstance(node, ast.Subscript):
        return _head(node.value)
    if isinstance(node, ast.Constant):
        return str(node.value)
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _inside(node: ast.AST) -> list[ast.expr]:
    if not isinstance(node, ast.Subscript):
        return []
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _fits(value: Any, node: ast.expr, fields: Fields, typed: bool = False) -> bool:
    choices = _choices(node)
    if len(choices) > 1:
        return any(_fits(value, one, fields, typed) for one in choices)
    (node,), head = choices, _head(choices[0])
    if head == "str":
        return isinstance(value, str)
    if head == "Literal":
        words = [ast.literal_eval(word) for word in _inside(node)]
        return value in words or (isinstance(value, str) and read(value) in words)
    if isinstance(value, str) and (typed or head in ("int", "float", "bool")):
        value = read(value)
    if head in _NULL:
        return value is None
    if head == "bool":
        return isinstance(value, bool)
    if head in ("int", "float"):
        return isinstance(value, int | float if head == "float" else int) and not isinstance(value, bool)
    if head in _LISTS or head in ("tuple", "Tuple"):
        return _fits_list(value, node, fields)
    if head in _DICTS:
        inside = _inside(node)
        return isinstance(value, dict) and (
            not inside or all(_fits_key(key, inside[0]) and _fits(one, inside[1], fields) for key, one in value.items())
        )
    known = fields(head)
    if known is None or isinstance(value, str):  # another's class, or a file
        return True
    given = value.get("init_args", value) if isinstance(value, dict) else None
    return isinstance(given, dict) and all(
        name in known and _fits(one, _tree(known[name]), fields) for name, one in flat(given, known)
    )


def _fits_list(value: Any, node: ast.expr, fields: Fields) -> bool:
    if not isinstance(value, list | tuple):
        return False
    inside = _inside(node)
    is_pair = _head(node) in ("tuple", "Tuple") and all(_head(one) != "Ellipsis" for one in inside)
    if is_pair and len(value) != len(inside):
        return False
    return all(_fits(one, inside[place if is_pair else 0], fields) for place, one in enumerate(value) if inside)


def _fits_key(key: Any, node: ast.expr) -> bool:
    kinds = [_head(one) for one in _choices(node)]
    return "str" in kinds or "int" not in kinds or re.fullmatch(r"\d+", str(key)) is not None


def flat(settings: Mapping[str, Any], known: Container[str], head: str = "") -> list[tuple[str, Any]]:
    """Settings by their dotted names, down to those that are known."""
    found = []
    for key, value in settings.items():
        name = f"{head}{key}"
        if name not in known and isinstance(value, dict):
            found += flat(value, known, f"{name}.")
        else:
            found.append((name, value))
    return found


def leaves(value: Any, kind: str, fields: Fields) -> list[tuple[str, Any, str | None]]:
    """What a value sets in classes of ours, one or several by name: dotted name, value, and type; None if unknown."""
    for node in _choices(_tree(kind)):
        known, inside = fields(_head(node)), _inside(node)
        if known is not None and isinstance(value, Mapping):
            given: Mapping[str, Any] = value.get("init_args", value)
            return [(name, one, known.get(name)) for name, one in flat(given, known)]
        if _head(node) in _DICTS and len(inside) == 2 and isinstance(value, Mapping):
            inner = ast.unparse(inside[1])
            found = [(key, leaves(one, inner, fields)) for key, one in value.items()]
            return [(f"{key}.{name}", one, of) for key, several in found for name, one, of in several]
    return []


def _words(node: ast.expr, many: bool = False) -> str:
    choices = _choices(node)
    if len(choices) > 1:
        said = [_words(one, many) for one in choices if _head(one) not in _NULL]
        said = list(dict.fromkeys(said)) + (["`null`"] if any(_head(one) in _NULL for one in choices) else [])
        return f"{', '.join(said[:-1])} or {said[-1]}" if len(said) > 1 else said[0]
    (node,), head, inside = choices, _head(choices[0]), _inside(choices[0])
    if head == "Literal":
        words = [str(ast.literal_eval(word)) for word in inside]
        return f"`{words[0]}`" if len(words) == 1 else f"one of {', '.join(words)}"
    if head in _LISTS or head in ("tuple", "Tuple"):
        inner = _words(inside[0], many=True) if inside else "values"
        pair = head in ("tuple", "Tuple") and len(inside) == 2 and _head(inside[1]) != "Ellipsis"
        return f"{'two' if pair else 'lists of' if many else 'a list of'} {inner}"
    if head in _DICTS:
        start = "mappings" if many else "a mapping"
        return start if len(inside) < 2 or _head(inside[1]) == "Any" else f"{start} to {_words(inside[1], many=True)}"
    plain = {"str": ("text", "texts"), "int": ("a whole number", "whole numbers"), "float": ("a number", "numbers")}
    plain |= {"bool": ("true or false", "true or false"), "Any": ("anything", "anything")}
    plain |= dict.fromkeys(_NULL, ("`null`", "`null`"))
    return plain.get(head, (f"a {head}", f"a {head}"))[many]
