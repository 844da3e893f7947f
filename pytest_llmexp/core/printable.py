"""Makes text from models and exceptions safe to print: no escape sequences, no text that runs backwards."""

import re

# C0 controls but tab and newline, DEL, C1 controls, the marks and overrides of writing direction
# (Unicode Technical Report 36, "Bidirectional Text Spoofing"), lone surrogates
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return `text` with every control character written as an escape, such as `\\x1b`."""
    return _UNSAFE.sub(lambda match: _escape(match.group()), text)


def one_line(text: str, width: int) -> str:
    """Return `text` printable, on one line, cut to `width` characters."""
    line = " ".join(printable(text[: width * 4]).split())
    return line if len(line) <= width else line[: max(width - 3, 0)] + "..."


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
