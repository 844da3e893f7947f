"""OpenAI embeddings, and whatever else counts its tokens as OpenAI does; none of it is streamed.

https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from typing import Any

from pytest_llmexp.tracking.wire.counts import Answered, openai_usage
from pytest_llmexp.tracking.wire.family import Family
from pytest_llmexp.tracking.wire.shapes import text


def _read(body: dict[str, Any]) -> Answered:
    return Answered(text(body, "model"), openai_usage(body.get("usage")), None)


FAMILY = Family(answers=lambda body: True, read=_read)
