"""Takes keys and tokens out of text before it is stored or shown. Linear in the length of the text.

Every pattern begins with a literal, so that `re` searches for that first, and every repeat is bounded or of
characters that cannot begin the pattern's next part: an unbounded JWT pattern takes minutes on "eyJeyJeyJ...".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from pytest_llmexp.core.ids import short_hash, tagged_hash

_ENDINGS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "DSN")
_SHORTEST = 8  # a shorter value would hit ordinary words
_KEY = "[redacted:key]"


def _not_inside_word(literal: str) -> str:
    """Return a pattern for `literal` where a word begins, also after an escape of JSON such as \\n or \\u001b."""
    text = re.escape(literal)
    return rf"{text}(?:(?<![A-Za-z0-9]{text})|(?<=\\[bfnrt]{text})|(?<=\\u[0-9a-f]{{4}}{text}))"


def _digit_within(characters: str) -> str:
    """Look ahead for a digit: what tells a key from hyphenated words."""
    return rf"(?=[{characters}]{{0,95}}[0-9])"


_WORD = "A-Za-z0-9_-"
_BEARER = "A-Za-z0-9._~+/=-"
# literal that must be there -> pattern; group 1, if any, is the part that is replaced
_PATTERNS: Final = [
    (literal, re.compile(_not_inside_word(literal) + rest))
    for literal, rest in (
        ("sk-", rf"{_digit_within(_WORD)}[{_WORD}]{{20,}}"),  # OpenAI, Anthropic (sk-ant-), OpenRouter (sk-or-)
        ("ghp_", r"[A-Za-z0-9]{20,}"),
        ("gho_", r"[A-Za-z0-9]{20,}"),
        ("ghu_", r"[A-Za-z0-9]{20,}"),
        ("ghs_", r"[A-Za-z0-9]{20,}"),
        ("ghr_", r"[A-Za-z0-9]{20,}"),
        ("github_pat_", r"[A-Za-z0-9_]{20,}"),
        ("AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ("ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ("AIza", rf"[{_WORD}]{{35,}}"),
        ("xox", rf"[abeoprs]-{_digit_within(_WORD)}[{_WORD}]{{10,}}"),
        ("hf_", r"(?=[A-Za-z]{0,95}[0-9])[A-Za-z0-9]{20,}"),
        (
            "eyJ",
            rf"[{_WORD}]{{8,512}}\.eyJ[{_WORD}]{{4,8192}}\.[{_WORD}]{{8,}}",
        ),  # JWT: two JSON objects and a signature
        ("Bearer", rf"(?:[ \t]|\\t){{1,8}}({_digit_within(_BEARER)}[{_BEARER}]{{8,}})"),
        ("bearer", rf"(?:[ \t]|\\t){{1,8}}({_digit_within(_BEARER)}[{_BEARER}]{{8,}})"),
    )
] + [("://", re.compile(r"://[^\s:/?#@\"']{0,128}:([^\s/?#@]{1,256})@"))]

# Whether any of the literals is there, in a third of the time of sixteen searches: each pattern begins with the rarest
# character of its literals, which `re` looks for with memchr, and looks at what stands around it only then.
_HINTS: Final = [
    re.compile(pattern).search
    for pattern in (
        r"_(?:(?<=gh[pousr]_)|(?<=github_pat_)|(?<=hf_))",
        r"-(?<=sk-)",
        r"A(?=KIA|SIA|Iza)",
        r"x(?=ox)",
        r"J(?<=eyJ)",
        r"/(?<=:/)(?=/)",
    )
]


class Redactor:
    """Replaces secrets in a text: values of telling environment variables, and what looks like a key.

    Telling are variables whose names end with KEY, TOKEN, SECRET, PASSWORD or DSN in any case and whose values
    have 8 characters or more: they become `[redacted:NAME]`. Keys of known form, bearer tokens, JWTs and passwords
    in URLs become `[redacted:key]`. A text that is JSON need not stay JSON, but a secret inside one of its
    strings always changes it: that is how the store finds out which JSON it must walk.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        forms = {
            form: f"[redacted:{name}]"
            for name, value in environ.items()
            if name.upper().endswith(_ENDINGS) and len(value.strip()) >= _SHORTEST
            for form in _forms(value.strip())
        }
        # the longest first, so that no secret is left half replaced by another that it contains
        self._secrets = sorted(forms.items(), key=lambda item: -len(item[0]))

    def __call__(self, text: str) -> str:
        """Return `text` without secrets; the very same object where there are none."""
        for secret, name in self._secrets:
            if secret in text:
                text = text.replace(secret, name)
        if not may_hold_key(text):
            return text
        for literal, pattern in _PATTERNS:
            if literal in text:
                text = pattern.sub(_replacement, text)
        return text


def may_hold_key(text: str) -> bool:
    """Return whether any literal that a key of known form begins with is in `text`."""
    return "earer" in text or any(hint(text) for hint in _HINTS)


def _forms(secret: str) -> set[str]:
    """Return how a secret may be spelled: as it is, inside JSON text, inside a URL."""
    in_json = {json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    try:
        in_url = {quote(secret, safe="")}
    except UnicodeEncodeError:  # undecodable bytes of the environment
        in_url = set()
    return {secret} | in_json | in_url


def _replacement(match: re.Match[str]) -> str:
    if not match.re.groups:
        return _KEY
    whole, start = match.group(), match.start()
    return whole[: match.start(1) - start] + _KEY + whole[match.end(1) - start :]


def safe_identity(text: str, redact: Callable[[str], str]) -> str:
    """Return a name that holds no secret, and that stays different from other names where it held one.

    What records are grouped by must not be changed by the store: two cases would become one, and a gate would not
    find its runs.
    """
    redacted = redact(text)
    return text if redacted == text else f"{redacted}~{short_hash(tagged_hash('identity', text))}"
