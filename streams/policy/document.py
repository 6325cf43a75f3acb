"""A policy text as a tree of plain values, with the line of every part.

YAML is read as its node tree, never as objects. Aliases, tags and duplicate keys are refused, and so is every spelling
that YAML 1.1 turns into something the reader of the file does not see (`no`, `1:30`, `010`, `1.5`, an unquoted date).
"""

import re
import unicodedata
from typing import Any, NamedTuple

import msgspec
import yaml

Path = tuple[str | int, ...]
MAX_DEPTH = 24
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")


class Flaw(NamedTuple):
    line: int
    path: Path
    what: str


class Unreadable(Exception):
    """The text is not one YAML document of plain values."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


class _PlainLoader(yaml.SafeLoader):
    """Composes nodes with marks; refuses what can make one part of a document depend on another."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise Unreadable(line, "YAML anchors and aliases are not read; write the value out in full")
        if getattr(event, "tag", None) is not None:
            raise Unreadable(line, "YAML tags are not read; remove the tag")
        if self.depth >= MAX_DEPTH:
            raise Unreadable(line, f"nested more than {MAX_DEPTH} levels deep; no policy is")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse(text: str) -> yaml.Node:
    """The node tree of the text.

    Raises:
        Unreadable: the text is empty, not YAML, or uses what is refused.
    """
    try:
        loader = _PlainLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise Unreadable(1 if mark is None else mark.line + 1, f"not YAML ({what}); mend the syntax here") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, f"character U+{error.character:04X} is not allowed; remove it") from None
    if node is None:
        raise Unreadable(1, "the document is empty; start from the shipped standard.yaml")
    return node


class Reading:
    """One pass over a node tree, guided by the types of the model.

    Collects every flaw with its line, and the line of every path for later questions.
    """

    def __init__(self) -> None:
        self.flaws: list[Flaw] = []
        self.lines: dict[Path, int] = {}

    def flaw(self, node: yaml.Node, path: Path, what: str) -> None:
        self.flaws.append(Flaw(node.start_mark.line + 1, path, what))

    def value(self, node: yaml.Node, kind: msgspec.inspect.Type, path: Path) -> Any:
        """The plain value of a node of the given type; None, with a flaw noted, where it does not fit."""
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(kind, msgspec.inspect.Metadata):
            return self.value(node, kind.type, path)
        if isinstance(kind, msgspec.inspect.UnionType):
            if isinstance(node, yaml.ScalarNode) and _is_null(node):
                return None
            return self.value(node, next(t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType)), path)
        if isinstance(kind, msgspec.inspect.StructType):
            return self._struct(node, kind, path)
        if isinstance(kind, msgspec.inspect.DictType):
            return self._dict(node, kind, path)
        if isinstance(kind, msgspec.inspect.VarTupleType):
            if not isinstance(node, yaml.SequenceNode):
                self.flaw(node, path, f"expected a list, found {_found(node)}")
                return None
            return [self.value(item, kind.item_type, (*path, at)) for at, item in enumerate(node.value)]
        if isinstance(kind, msgspec.inspect.AnyType):
            return self._anything(node, path)
        return self._scalar(node, kind, path)

    def _anything(self, node: yaml.Node, path: Path) -> Any:
        """A value of any shape: fields, a list, a whole number, true, false, nothing or text."""
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            pairs = self._pairs(node, path) or []
            return {name: self._anything(value, (*path, name)) for name, _, value in pairs}
        if isinstance(node, yaml.SequenceNode):
            return [self._anything(item, (*path, at)) for at, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode), "a node is fields, a list or a scalar"
        if _is_null(node):
            return None
        whole = _whole(node)
        if whole is not None:
            return whole
        if node.style is None and node.value in ("true", "false"):
            return node.value == "true"
        return self._scalar(node, msgspec.inspect.StrType(), path)

    def _pairs(self, node: yaml.Node, path: Path) -> list[tuple[str, yaml.Node, yaml.Node]] | None:
        if not isinstance(node, yaml.MappingNode):
            self.flaw(node, path, f"expected fields (name: value), found {_found(node)}")
            return None
        seen: dict[str, int] = {}
        pairs: list[tuple[str, yaml.Node, yaml.Node]] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.flaw(key, path, "a field name must be plain text")
                continue
            if key.value in seen:
                self.flaw(key, (*path, key.value), f"given twice, first in line {seen[key.value]}; keep one of the two")
                continue
            seen[key.value] = key.start_mark.line + 1
            self.lines[(*path, key.value)] = key.start_mark.line + 1
            pairs.append((key.value, key, value))
        return pairs

    def _struct(self, node: yaml.Node, kind: msgspec.inspect.StructType, path: Path) -> dict[str, Any] | None:
        pairs = self._pairs(node, path)
        if pairs is None:
            return None
        fields = {field.encode_name: field for field in kind.fields}
        out: dict[str, Any] = {}
        for name, key, value in pairs:
            field = fields.get(name)
            if field is None:
                self.flaw(key, (*path, name), f"unknown field; use one of: {', '.join(fields)}")
                continue
            out[name] = self.value(value, field.type, (*path, name))
        for name, field in fields.items():
            if field.required and name not in {pair[0] for pair in pairs}:
                self.flaw(node, (*path, name), "missing; add this field")
        return out

    def _dict(self, node: yaml.Node, kind: msgspec.inspect.DictType, path: Path) -> dict[str, Any] | None:
        pairs = self._pairs(node, path)
        if pairs is None:
            return None
        out: dict[str, Any] = {}
        for name, key, value in pairs:
            self._check_text(key, kind.key_type, (*path, name), name)
            out[name] = self.value(value, kind.value_type, (*path, name))
        return out

    def _scalar(self, node: yaml.Node, kind: msgspec.inspect.Type, path: Path) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self.flaw(node, path, f"expected {_wanted(kind)}, found {_found(node)}")
            return None
        plain = node.style is None
        if isinstance(kind, msgspec.inspect.BoolType):
            if plain and node.value in ("true", "false"):
                return node.value == "true"
            self.flaw(node, path, f"expected true or false, found {_found(node)}")
            return None
        whole = _whole(node)
        if isinstance(kind, msgspec.inspect.IntType):
            if whole is None:
                self.flaw(node, path, f"expected a whole number, found {_found(node)}")
                return None
            return self._in_range(node, kind, path, whole)
        if isinstance(kind, msgspec.inspect.LiteralType) and isinstance(kind.values[0], int):
            if whole in kind.values:
                return whole
            self.flaw(node, path, f"expected {_wanted(kind)}, found {_found(node)}")
            return None
        if plain and node.tag != "tag:yaml.org,2002:str":
            self.flaw(node, path, f"expected {_wanted(kind)}, found {_found(node)}; if text is meant, quote it")
            return None
        return self._check_text(node, kind, path, node.value)

    def _in_range(self, node: yaml.Node, kind: msgspec.inspect.IntType, path: Path, value: int) -> int | None:
        low, high = kind.ge, kind.le
        if low is not None and value < low:
            self.flaw(node, path, f"{value} is below the least value allowed, {low}")
            return None
        if high is not None and value > high:
            self.flaw(node, path, f"{value} is above the greatest value allowed, {high}")
            return None
        if not -(2**63) <= value < 2**63:
            self.flaw(node, path, "does not fit 64 bits; write a smaller number")
            return None
        return value

    def _check_text(self, node: yaml.Node, kind: msgspec.inspect.Type, path: Path, text: str) -> str | None:
        if isinstance(kind, msgspec.inspect.Metadata):
            return self._check_text(node, kind.type, path, text)
        if isinstance(kind, msgspec.inspect.LiteralType):
            if text in kind.values:
                return text
            self.flaw(node, path, f"expected {_wanted(kind)}, found {text[:40]!r}")
            return None
        if not isinstance(kind, msgspec.inspect.StrType):
            return text
        if any(unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") for c in text):
            self.flaw(node, path, "holds a line break or control character; write it on one line")
            return None
        if len(text) < (kind.min_length or 0):
            self.flaw(node, path, "must not be empty")
            return None
        if kind.max_length is not None and len(text) > kind.max_length:
            self.flaw(node, path, f"is {len(text)} characters long; shorten it to {kind.max_length}")
            return None
        if kind.pattern is not None and re.search(kind.pattern, text) is None:
            self.flaw(node, path, f"{text[:40]!r} does not have the form {kind.pattern}")
            return None
        return text


def _is_null(node: yaml.ScalarNode) -> bool:
    return node.style is None and node.tag == "tag:yaml.org,2002:null"


def _whole(node: yaml.ScalarNode) -> int | None:
    if node.style is None and len(node.value) <= 40 and _WHOLE.fullmatch(node.value):
        return int(node.value)
    return None


def _wanted(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.LiteralType):
        return "one of " + ", ".join(str(value) for value in kind.values)
    if isinstance(kind, msgspec.inspect.IntType):
        return "a whole number"
    if isinstance(kind, msgspec.inspect.BoolType):
        return "true or false"
    return "text"


def _found(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "fields"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "nothing" if node.value == "" else repr(str(node.value)[:40])
