"""Collects everything wrong with one document and puts it in plain words.

Turns pydantic's findings into `ConfigProblem`s: JSON path, line, what is wrong, what
to write instead. Values are echoed only by checks that know the field is no secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from tunnel.config.hidden import hide_keys
from tunnel.config.positions import JsonPath, scan
from tunnel.errors import ConfigProblem

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

__all__ = ["UNION_TAGS", "Found", "render_path"]

# Parts of pydantic's locations that are not in the JSON.
UNION_TAGS: Final = frozenset({"<text>", "<number>", "<ref>", "<list>"})

_PLAIN: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}", re.ASCII)
_KINDS: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "scalar": "a whole number or a text",
    "text_or_ref": 'a text, {"file": path} or {"env": NAME}',
    "text_or_list": "a text or a list of texts",
}
_EXAMPLES: Final = {
    "mode": '"server" or "client"',
    "listen": '":51820"',
    "endpoint": '"vpn.example.com:51820"',
    "allowedIPs": '["10.0.0.2/32"]',
    "routes": '["192.168.0.0/16"]',
    "addresses": '["10.0.0.1/24"]',
    "address": '"10.0.0.1/24"',
    "dns": '["10.0.0.1"]',
    "acl": '["127.0.0.0/8"]',
    "keepalive": '"25s"',
    "persistentKeepalive": "25",
    "peers": '[{"name": "laptop", "allowedIPs": ["10.0.0.2/32"]}]',
    "peersFile": '"peers.json"',
    "include": '["peers.d/*.json"]',
    "mtu": "1420",
    "enabled": "true",
    "tunnel": '{"type": "tun", "name": "tunnel0"}',
    "bind": '"127.0.0.1:7777"',
    "level": '"info"',
}


def render_path(path: JsonPath, label: str = "") -> str:
    """`peers[3].allowedIPs[0]`; `$` is the whole document, `file#` another file."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        safe = hide_keys(part, 64)
        if _PLAIN.fullmatch(safe):
            text += f".{safe}" if text else safe
        else:
            text += f"[{json.dumps(safe[:40])}]"
    return f"{label}#{text or '$'}" if label else text or "$"


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    names = {str: "a text", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "something else")


def _expected(ctx: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(ctx.get("expected", "")))


def _suggest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or an empty text."""
    plain = {k.replace("_", "").replace("-", "").lower(): k for k in known}
    wanted = word[:64].replace("_", "").replace("-", "").lower()
    close = get_close_matches(wanted, plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else ""


class Found:
    """The problems of one document; `label` names it when it is not the main file.

    With `unwrap` the document is a bare list that is checked as `{"peers": list}`, so
    that the first part of every path is not in the text.
    """

    def __init__(self, text: str = "", label: str = "") -> None:
        self.text = text
        self.label = label
        self.unwrap = False
        self._items: list[tuple[JsonPath, int, str, str]] = []

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, path: JsonPath, message: str, hint: str = "", line: int = 0) -> None:
        """Note a problem; without `line`, the line of `path` is looked up later."""
        path = path[1:] if self.unwrap else path
        self._items.append((path, line, message, hint))

    def problems(self) -> list[ConfigProblem]:
        """All of them with their lines, in the order of the file."""
        if not self._items:
            return []
        look_up = self.text and any(not line for _, line, _, _ in self._items)
        positions = scan(self.text) if look_up else None
        problems = [
            ConfigProblem(
                render_path(path, self.label),
                line or (positions.line(path) if positions else 0),
                message,
                hint,
            )
            for path, line, message, hint in self._items
        ]
        return sorted(problems, key=lambda problem: problem.line)

    def add_schema(self, error: ValidationError, model: type[BaseModel]) -> None:
        """Everything that pydantic found; its own texts are not used."""
        keys = _keys_by_place(model)
        for item in error.errors(include_url=False):
            path = tuple(part for part in item["loc"] if part not in UNION_TAGS)
            message, hint = _explain(item["type"], path, item, keys)
            self.add(path, message, hint)


def _keys_by_place(model: type[BaseModel]) -> dict[str, list[str]]:
    """The keys of the model itself ("") and of each object inside it, by its key."""
    from pydantic import BaseModel

    places: dict[str, list[str]] = {"": []}
    for name, info in model.model_fields.items():
        alias = info.alias or name
        places[""].append(alias)
        for inner in _models_in(info.annotation):
            if issubclass(inner, BaseModel):
                nested = _keys_by_place(inner)
                places.setdefault(alias, []).extend(nested.pop(""))
                places.update(nested)
    return places


def _models_in(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and not getattr(annotation, "__args__", None):
        return [annotation]
    inner = getattr(annotation, "__args__", ())
    return [model for part in inner for model in _models_in(part)]


def _explain_unknown(path: JsonPath, keys: Mapping[str, list[str]]) -> tuple[str, str]:
    word = str(path[-1])
    parents = [part for part in path[:-1] if isinstance(part, str)]
    place = parents[-1] if parents else ""
    here = keys.get(place, [])
    if word == "keepalive" and "persistentKeepalive" in here:
        return "unknown key", "did you mean `persistentKeepalive`?"
    for other, known in keys.items():
        if word in known and other != place:
            where = f"`{other}`" if other else "the top level"
            return "unknown key", f"`{word}` belongs in {where}"
    close = _suggest(word, here)
    if close:
        return "unknown key", f"did you mean `{close}`?"
    return "unknown key", f"known here: {', '.join(sorted(here))}"


def _explain(
    kind: str, path: JsonPath, item: Any, keys: Mapping[str, list[str]]
) -> tuple[str, str]:
    """(message, hint) of one finding, without the value that caused it."""
    value, ctx = item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return _explain_unknown(path, keys)
    names = [part for part in path if isinstance(part, str)]
    example = _EXAMPLES.get(names[-1] if names else "", "")
    hint = f"write {example}" if example else ""
    if isinstance(value, float) and not isfinite(value):
        return "not a finite number", hint or "JSON has no NaN and no Infinity"
    if kind in _KINDS:
        if path and isinstance(path[-1], int) and len(names) == 1:
            hint = ""
        return f"must be {_KINDS[kind]}, not {_kind_of(value)}", hint
    if kind == "literal_error":
        allowed = _expected(ctx)
        close = _suggest(value, allowed) if isinstance(value, str) else ""
        listed = ", ".join(f'"{word}"' for word in allowed)
        return f"must be one of {listed}", f'did you mean "{close}"?' if close else ""
    if kind in ("greater_than_equal", "less_than_equal", "greater_than"):
        return _explain_range(kind, ctx), hint
    if kind == "string_too_long":
        return f"longer than {ctx['max_length']} characters", ""
    if kind == "string_unicode":
        return "holds half of a character (a lone surrogate)", "write it as UTF-8"
    if kind == "missing":
        return "missing", hint
    return "not valid here", hint


def _explain_range(kind: str, ctx: Mapping[str, Any]) -> str:
    if kind == "less_than_equal":
        return f"must be at most {ctx['le']}"
    if kind == "greater_than":
        return f"must be more than {ctx['gt']}"
    return f"must be at least {ctx['ge']}"
