"""Gemini's schemas as JSON schemas: types in lower case, counts as numbers, `nullable` as a type.

Standard library only. See https://ai.google.dev/api/caching#Schema.
"""

from typing import Any

_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})


def json_schema(schema: Any) -> Any:
    """Return the JSON schema of one of Gemini's; what is no object stays what it is."""
    if not isinstance(schema, dict):
        return schema
    converted = {key: _converted(key, value) for key, value in schema.items() if key != "nullable"}
    if converted.get("type") == "type_unspecified":
        del converted["type"]
    return {"anyOf": [converted, {"type": "null"}]} if schema.get("nullable") else converted


def _converted(key: str, value: Any) -> Any:
    if key == "type" and isinstance(value, str):
        return value.lower()
    if key in _COUNTS:
        return int(value)  # Google writes 64-bit numbers as text
    if key in ("properties", "defs", "$defs") and isinstance(value, dict):
        return {name: json_schema(part) for name, part in value.items()}
    if key in ("anyOf", "prefixItems") and isinstance(value, list):
        return [json_schema(part) for part in value]
    return json_schema(value) if key in ("items", "additionalProperties") else value
