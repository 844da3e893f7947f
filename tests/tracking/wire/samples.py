"""Streams as the servers of each family send them, made by hand after their documentation."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any, NamedTuple

SSE = "text/event-stream; charset=utf-8"
NDJSON = "application/x-ndjson"
EVENTSTREAM = "application/vnd.amazon.eventstream"
SECRET = "sk-secret-0123456789"
PIECES = ["my key ", "is sk-sec", "ret-01", "23456789", "."]
TEXT = "".join(PIECES)
ARGUMENTS = ['{"key": "sk-sec', "ret-0123", '456789"}']


class Sample(NamedTuple):
    """A stream, the events its record needs, and what it means."""

    content_type: str
    content: bytes
    recorded: int
    model: str | None
    tokens: tuple[int | None, ...]
    finish_reason: str | None


def sse(*events: Any, named: bool = False, done: bool = False) -> bytes:
    names = [f"event: {event['type']}\n" if named else "" for event in events]
    lines = [f"{name}data: {json.dumps(event)}\n\n" for name, event in zip(names, events, strict=True)]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def ndjson(*events: Any) -> bytes:
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def message(payload: bytes, **headers: str) -> bytes:
    """One message of an Amazon event stream; `event_type` stands for `:event-type`."""
    block = b"".join(
        bytes([len(name) + 1])
        + b":"
        + name.replace("_", "-").encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + payload
    return head + struct.pack(">I", zlib.crc32(head))


def converse(*events: tuple[str, Any]) -> bytes:
    return b"".join(
        message(json.dumps(data).encode(), event_type=name, content_type="application/json", message_type="event")
        for name, data in events
    )


def invoked(*events: Any) -> bytes:
    wrapped = [{"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abcdef"} for event in events]
    return converse(*(("chunk", data) for data in wrapped))


def chunk(delta: Any = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": None, **fields}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-x-2026",
        "choices": [choice],
        "usage": None,
        "obfuscation": "x" * len(str(delta)),
    }


def tool(**fields: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **fields}]}


CHAT_EVENTS = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    *(chunk({"content": piece}) for piece in PIECES),
    chunk(tool(id="call_1", type="function", function={"name": "save", "arguments": ""})),
    *(chunk(tool(function={"arguments": piece})) for piece in ARGUMENTS),
    chunk({}, finish_reason="tool_calls"),
    {
        **chunk(),
        "choices": [],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 7,
            "total_tokens": 16,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    },
]

RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-x-2026",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
        }
    ],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 16,
    },
}
_AT: dict[str, Any] = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
_PART: dict[str, Any] = {"type": "output_text", "text": "", "annotations": []}
_ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
_OPEN = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
_UNNUMBERED: list[dict[str, Any]] = [
    {"type": "response.created", "response": _OPEN},
    {"type": "response.output_item.added", "output_index": 0, "item": _ITEM},
    {"type": "response.content_part.added", **_AT, "part": _PART},
    *(
        {"type": "response.output_text.delta", **_AT, "delta": piece, "logprobs": [], "obfuscation": piece}
        for piece in PIECES
    ),
    {"type": "response.output_text.done", **_AT, "text": TEXT, "logprobs": []},
    {"type": "response.content_part.done", **_AT, "part": {**_PART, "text": TEXT}},
    {"type": "response.output_item.done", "output_index": 0, "item": RESPONSE["output"][0]},
    {"type": "response.completed", "response": RESPONSE},
]
RESPONSES_EVENTS = [{"sequence_number": number, **event} for number, event in enumerate(_UNNUMBERED)]


def block(index: int, kind: str, *pieces: str, **start: Any) -> list[dict[str, Any]]:
    name = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[kind]
    deltas = [{"type": "content_block_delta", "index": index, "delta": {"type": kind, name: piece}} for piece in pieces]
    signed = {"type": "content_block_delta", "index": index, "delta": {"type": "signature_delta", "signature": "c2ln"}}
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        {"type": "ping"},
        *deltas[:2],
        {"type": "ping"},
        *deltas[2:],
        *([signed] if kind == "thinking_delta" else []),
        {"type": "content_block_stop", "index": index},
    ]


ANTHROPIC_EVENTS = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-x-1",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 3,
                "cache_creation_input_tokens": 2,
                "cache_read_input_tokens": 4,
                "output_tokens": 1,
            },
        },
    },
    *block(0, "thinking_delta", *PIECES, type="thinking", thinking="", signature=""),
    *block(1, "text_delta", *PIECES, type="text", text=""),
    *block(2, "input_json_delta", *ARGUMENTS, type="tool_use", id="toolu_1", name="save", input={}),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"input_tokens": None, "output_tokens": 7},
    },
    {"type": "message_stop"},
]


def gemini_chunk(*parts: Any, usage: Any = None, **candidate: Any) -> dict[str, Any]:
    said = {"content": {"parts": list(parts), "role": "model"}, "index": 0, **candidate}
    counted = {"promptTokenCount": 6, "totalTokenCount": 6, **(usage or {})}
    return {"candidates": [said], "usageMetadata": counted, "modelVersion": "gemini-x", "responseId": "r1"}


GEMINI_EVENTS = [
    *(gemini_chunk({"text": piece, "thought": True}, usage={"thoughtsTokenCount": 2}) for piece in PIECES),
    *(gemini_chunk({"text": piece}) for piece in PIECES[:-1]),
    gemini_chunk(
        {"text": PIECES[-1]},
        usage={
            "promptTokenCount": 6,
            "toolUsePromptTokenCount": 3,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 2,
            "totalTokenCount": 16,
        },
        finishReason="STOP",
    ),
]


def converse_block(index: int, *deltas: Any, **start: Any) -> list[tuple[str, Any]]:
    return [
        *([("contentBlockStart", {"contentBlockIndex": index, "start": start, "p": "a"})] if start else []),
        *(
            ("contentBlockDelta", {"contentBlockIndex": index, "delta": delta, "p": "ab" * at})
            for at, delta in enumerate(deltas)
        ),
        ("contentBlockStop", {"contentBlockIndex": index, "p": "abc"}),
    ]


CONVERSE_EVENTS: list[tuple[str, Any]] = [
    ("messageStart", {"role": "assistant", "p": "abcdefgh"}),
    *converse_block(
        0, *({"reasoningContent": {"text": piece}} for piece in PIECES), {"reasoningContent": {"signature": "c2ln"}}
    ),
    *converse_block(1, *({"text": piece} for piece in PIECES)),
    *converse_block(
        2,
        *({"toolUse": {"input": piece}} for piece in ARGUMENTS),
        toolUse={"toolUseId": "tooluse_1", "name": "save"},
    ),
    ("messageStop", {"stopReason": "tool_use", "p": "ab"}),
    (
        "metadata",
        {
            "usage": {
                "inputTokens": 3,
                "outputTokens": 7,
                "totalTokens": 16,
                "cacheReadInputTokens": 4,
                "cacheWriteInputTokens": 2,
            },
            "metrics": {"latencyMs": 12},
            "p": "abc",
        },
    ),
]


def ollama_line(**fields: Any) -> dict[str, Any]:
    return {"model": "llama-x", "created_at": f"2026-01-01T00:00:0{len(str(fields)) % 10}Z", "done": False, **fields}


def _said(**fields: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": "", **fields}}


_OLLAMA_END = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 5,
    "prompt_eval_count": 9,
    "eval_count": 7,
}
OLLAMA_CHAT_EVENTS = [
    *(ollama_line(**_said(thinking=piece)) for piece in PIECES),
    *(ollama_line(**_said(content=piece)) for piece in PIECES),
    ollama_line(**_said(tool_calls=[{"function": {"name": "save", "arguments": {"key": SECRET}}}])),
    ollama_line(**_said(), **_OLLAMA_END),
]
OLLAMA_GENERATE_EVENTS = [
    *(ollama_line(response=piece) for piece in PIECES),
    ollama_line(response="", context=[1, 2], **_OLLAMA_END),
]

SAMPLES = {
    "chat": Sample(SSE, sse(*CHAT_EVENTS, done=True), 5, "gpt-x-2026", (9, 7, 4, None, 2), "tool_calls"),
    "responses": Sample(SSE, sse(*RESPONSES_EVENTS, named=True), 8, "gpt-x-2026", (9, 7, 4, None, 2), "completed"),
    "anthropic": Sample(SSE, sse(*ANTHROPIC_EVENTS, named=True), 19, "claude-x-1", (9, 7, 4, 2, None), "tool_use"),
    "anthropic at bedrock": Sample(
        EVENTSTREAM, invoked(*ANTHROPIC_EVENTS), 19, "claude-x-1", (9, 7, 4, 2, None), "tool_use"
    ),
    "gemini": Sample(SSE, sse(*GEMINI_EVENTS), 2, "gemini-x", (9, 7, 4, None, 2), "STOP"),
    "converse": Sample(EVENTSTREAM, converse(*CONVERSE_EVENTS), 11, None, (9, 7, 4, 2, None), "tool_use"),
    "ollama chat": Sample(NDJSON, ndjson(*OLLAMA_CHAT_EVENTS), 3, "llama-x", (9, 7, None, None, None), "stop"),
    "ollama generate": Sample(NDJSON, ndjson(*OLLAMA_GENERATE_EVENTS), 2, "llama-x", (9, 7, None, None, None), "stop"),
}
