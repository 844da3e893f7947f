"""Streams read in unusual ways are recorded as far as they were read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp.core.models import Call
from pytest_llmexp.localmodel import Answer, LocalModelServer
from tests.clients import asking
from tests.tracking.conftest import Lab

pytestmark = pytest.mark.filterwarnings("ignore")  # clients leave connections to the garbage collector
BODY = {"model": "m", "messages": asking.MESSAGES, "stream": True}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return a lab whose server says three words."""
    with LocalModelServer(lambda _: Answer("one two three")) as server:
        opened = Lab(server, tmp_path)
        yield opened
        opened.close()
        opened.store.close()


def _said(call: Call) -> Any:
    return call.response["choices"][0]["message"]["content"]


def _urllib3_stream(lab: Lab) -> Any:
    urllib3 = pytest.importorskip("urllib3")
    return urllib3.PoolManager().request(
        "POST",
        f"{lab.server.base_url}/chat/completions",
        body=json.dumps(BODY),
        headers={"Content-Type": "application/json"},
        preload_content=False,
    )


@pytest.mark.parametrize("method", ["read", "read1"])
def test_to_read_nothing_of_a_urllib3_stream_is_not_its_end(lab: Lab, method: str) -> None:
    with lab.run():
        response = _urllib3_stream(lab)
        read = getattr(response, method)
        assert read(0) == b""
        first = read(10)
        assert read(0) == b""
        while read(100):
            pass
    assert first
    (call,) = lab.calls()
    assert (call.status, _said(call), call.finish_reason) == ("ok", "one two three", "stop")


def test_a_urllib3_stream_can_be_read_into_a_buffer(lab: Lab) -> None:
    with lab.run():
        response = _urllib3_stream(lab)
        response.auto_close = False  # as urllib3's documentation of BufferedReader and TextIOWrapper demands
        lines = list(io.TextIOWrapper(io.BufferedReader(response)))
    assert "data: [DONE]\n" in lines
    (call,) = lab.calls()
    assert (call.status, _said(call)) == ("ok", "one two three")
