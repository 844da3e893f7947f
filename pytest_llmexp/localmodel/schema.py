"""Values that fit a JSON schema: strings from the writer, labels that fit the message, numbers about the centre.

Standard library only. Understands the subset that structured outputs use: objects, arrays, strings, numbers, booleans,
null, enum, const, $ref, anyOf, oneOf, allOf. Not `pattern`, `not`, `if` or `patternProperties`.
"""

import json
import re
from typing import Any

from pytest_llmexp.localmodel.exchange import JsonObject
from pytest_llmexp.localmodel.numbers import bounded_integer, bounded_number
from pytest_llmexp.localmodel.strings import sampled_string
from pytest_llmexp.localmodel.writer import Writer

_DEEP = 5
_ATTEMPTS = 40
_QUOTED_KEY = re.compile(r"[\"'`](\w+)[\"'`]")
_LISTED_KEYS = re.compile(r"\b(?:keys?|fields?)\b:?\s+((?:\w+,\s*)*\w+(?:,?\s+and\s+\w+)?)", re.IGNORECASE)


class SchemaSampler:
    """Samples values of one root schema, which its references point into.

    Args:
        root: The root schema.
        writer: Writes strings and chooses labels.
        message: The message that the values answer; numbers without bounds are taken from it.
    """

    def __init__(self, root: JsonObject, writer: Writer, message: str) -> None:
        self._root = root
        self._writer = writer
        self._message = message

    def value(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """Return a value that fits a schema; `name` is the property it is for."""
        schema = self.resolve(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._label(schema["enum"])
        if branches := schema.get("anyOf") or schema.get("oneOf"):
            rest = {key: part for key, part in schema.items() if key not in ("anyOf", "oneOf")}
            return self.value({**rest, **self._branch(branches, depth)}, name, depth)
        return self._typed(self._type(schema, depth), schema, name, depth)

    def resolve(self, schema: Any) -> JsonObject:
        """Follow references and merge the parts of allOf."""
        merged: JsonObject = schema if isinstance(schema, dict) else {}
        while "$ref" in merged or "allOf" in merged:
            parts = [self._target(merged["$ref"])] if "$ref" in merged else []
            parts += merged.get("allOf", [])
            rest = {key: part for key, part in merged.items() if key not in ("$ref", "allOf")}
            for part in parts:
                rest = _merged(self.resolve(part), rest)
            merged = rest
        return merged

    def _target(self, reference: str) -> JsonObject:
        node: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if step:
                node = node[step.replace("~1", "/").replace("~0", "~")]
        return node if isinstance(node, dict) else {}

    def _label(self, values: list[Any]) -> Any:
        """Choose one of some values: text by what it says, other values by chance."""
        by_text = {value if isinstance(value, str) else json.dumps(value): value for value in values}
        return by_text[self._writer.choose_label(list(by_text))]

    def _branch(self, branches: list[Any], depth: int) -> JsonObject:
        resolved = [self.resolve(branch) for branch in branches]
        nulls = [branch for branch in resolved if branch.get("type") == "null"]
        others = [branch for branch in resolved if branch.get("type") != "null"]
        if depth >= _DEEP:
            return min(resolved, key=_weight)
        if nulls and (not others or self._writer.rng.random() < 0.15 * self._writer.temperature):
            return nulls[0]
        return others[int(self._writer.choose({str(index): 0.0 for index in range(len(others))}))]

    def _type(self, schema: JsonObject, depth: int) -> str:
        kinds = schema.get("type") or (
            "object" if "properties" in schema else "array" if "items" in schema else "string"
        )
        if isinstance(kinds, str):
            return kinds
        chosen = self._branch([{"type": kind} for kind in kinds], depth)
        return str(chosen["type"])

    def _typed(self, kind: str, schema: JsonObject, name: str, depth: int) -> Any:
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "integer":
            return bounded_integer(schema, self._message, self._writer)
        if kind == "number":
            return bounded_number(schema, self._message, self._writer)
        if kind == "boolean":
            return self._boolean(name)
        return None if kind == "null" else sampled_string(schema, name, self._message, self._writer)

    def _object(self, schema: JsonObject, depth: int) -> JsonObject:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        wanted = [name for name in properties if name in required or self._is_given(depth)]
        result = {name: self.value(properties[name], name, depth + 1) for name in wanted}
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict) and not properties:
            keys = ("first", "second", "third")[: schema.get("minProperties", 2)]
            result = {key: self.value(extra, key, depth + 1) for key in keys}
        return result

    def _is_given(self, depth: int) -> bool:
        """Say whether an optional property is given: mostly, but not deep down, where a schema may refer to itself."""
        return depth < _DEEP and self._writer.rng.random() >= 0.15 * self._writer.temperature

    def _array(self, schema: JsonObject, name: str, depth: int) -> list[Any]:
        fixed = schema.get("prefixItems") or []
        values = [self.value(item, name, depth + 1) for item in fixed]
        items = schema.get("items", {} if not fixed else False)
        if items is False:
            return values
        for _ in range(self._count(schema, depth) - len(fixed)):
            value = self.value(items, name, depth + 1)
            if schema.get("uniqueItems") and value in values:
                value = self._other_than(values, items, name, depth + 1)
            if not schema.get("uniqueItems") or value not in values:
                values.append(value)
        return values

    def _other_than(self, values: list[Any], schema: Any, name: str, depth: int) -> Any:
        """Look for a value that is not among others, at higher and higher temperatures."""
        usual = self._writer.temperature
        try:
            for attempt in range(_ATTEMPTS):
                self._writer.temperature = usual + 1 + attempt / 10
                value = self.value(schema, name, depth)
                if value not in values:
                    return value
        finally:
            self._writer.temperature = usual
        return values[-1]

    def _count(self, schema: JsonObject, depth: int) -> int:
        low = int(schema.get("minItems", 0))
        usual = 0 if depth >= _DEEP else 3 + round(self._writer.rng.gauss(0, 0.6 * self._writer.temperature))
        return min(int(schema.get("maxItems", max(low, usual))), max(low, usual, 0 if depth >= _DEEP else 1))

    def _boolean(self, name: str) -> bool:
        logits = {"true": self._writer.relevance.label_score(name), "false": 0.0}
        return self._writer.choose(logits) == "true"


def described_schema(texts: list[str]) -> JsonObject:
    """Return the JSON schema that some texts contain or describe: written out, or as the names of keys."""
    for text in texts:
        for start in re.finditer(r"\{", text):
            found = _json_at(text, start.start())
            if found is not None and ("properties" in found or "$ref" in found):
                return found
    for text in texts:
        listed = [key for keys in _LISTED_KEYS.findall(text) for key in re.findall(r"\w+", keys) if key != "and"]
        if keys := _QUOTED_KEY.findall(text) or listed:
            return _text_object(keys)
    return _text_object(["answer"])


def _text_object(keys: list[str]) -> JsonObject:
    return {"type": "object", "properties": {key: {"type": "string"} for key in keys}, "required": keys}


def _json_at(text: str, start: int) -> JsonObject | None:
    try:
        found, _ = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _merged(first: JsonObject, second: JsonObject) -> JsonObject:
    both = {**first, **second}
    if "properties" in first and "properties" in second:
        both["properties"] = {**first["properties"], **second["properties"]}
        both["required"] = [*first.get("required", []), *second.get("required", [])]
    return both


def _weight(schema: JsonObject) -> int:
    """Rank schemas by how deep they lead: null, then plain values, then arrays, then objects."""
    return {"null": 0, "array": 2, "object": 3}.get(str(schema.get("type")), 3 if "properties" in schema else 1)
