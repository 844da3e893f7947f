"""The sampling model: text, JSON that fits a schema, or a call of a tool, for what was asked.

Standard library only.
"""

import json
import random
import re
from dataclasses import replace

from pytest_llmexp.localmodel.brevity import Brief, requested_brief
from pytest_llmexp.localmodel.exchange import Ask, Reply, ToolCall, pieces
from pytest_llmexp.localmodel.ngrams import trained_model
from pytest_llmexp.localmodel.schema import SchemaSampler, described_schema
from pytest_llmexp.localmodel.tools import choose_tool, tool_arguments
from pytest_llmexp.localmodel.writer import Writer, Written

_OPTIONS = re.compile(
    r"\b(?:one of|either|answer|answer with|reply with|respond with|say|choose|classify (?:it|this) as|whether)[:\s]+"
    r"((?:[\w'\"-]+,\s*)*[\w'\"-]+,?\s+or\s+[\w'\"-]+)",
    re.IGNORECASE,
)
_LEADS = ("The tool says: ", "According to the tool: ", "Here is what I found: ")


def sample(ask: Ask) -> tuple[Reply, ...]:
    """Return the replies to what was asked. The same ask gives the same replies at temperature 0, or with a seed."""
    return tuple(_ended(_reply(ask, _writer(ask, index)), ask) for index in range(ask.n))


def _writer(ask: Ask, index: int) -> Writer:
    model = trained_model()
    earlier = " ".join(message.text for message in ask.messages if message.role in ("user", "assistant"))
    relevance = model.library.relevance(((_question(ask), 1.0), (ask.last("system"), 0.3), (earlier, 0.2)))
    return Writer(model, relevance, ask.temperature, ask.top_p, _chance(ask, index))


def _chance(ask: Ask, index: int) -> random.Random:
    if ask.temperature == 0:
        return random.Random(repr(ask.messages))
    if ask.seed is None:
        return random.Random()
    return random.Random(f"{ask.seed} {index} {ask.messages!r}")


def _question(ask: Ask) -> str:
    return ask.last("user") or ask.messages[-1].text


def _reply(ask: Ask, writer: Writer) -> Reply:
    if tool := choose_tool(ask, writer):
        arguments = tool_arguments(tool, _question(ask), writer)
        return Reply(tool_calls=(ToolCall(tool.name, arguments),), finish_reason="tool_calls")
    if ask.schema is not None:
        return Reply(json.dumps(_value(ask, writer), ensure_ascii=False))
    written = _text(ask, writer)
    known = len(written.logprobs) == len(pieces(written.text))
    return Reply(written.text, logprobs=written.logprobs if known else None)


def _value(ask: Ask, writer: Writer) -> object:
    schema = ask.schema or described_schema([message.text for message in reversed(ask.messages)])
    return SchemaSampler(schema, writer, _question(ask)).value(schema)


def _text(ask: Ask, writer: Writer) -> Written:
    if results := _tool_results(ask):
        lead = writer.choose(dict.fromkeys(_LEADS, 0.0))
        return Written(lead + "; ".join(results), ())
    question = _question(ask)
    if options := _OPTIONS.findall(f"{ask.last('system')} {question}"):
        return Written(writer.choose_label(_split(options[-1])), ())
    return writer.write(requested_brief(question) or requested_brief(ask.last("system")) or Brief())


def _tool_results(ask: Ask) -> list[str]:
    results: list[str] = []
    for message in reversed(ask.messages):
        if message.role != "tool":
            break
        results.insert(0, message.text)
    return results


def _split(options: str) -> list[str]:
    found = (option.strip("\"', ") for option in re.split(r",|\bor\b", options))
    return [option for option in found if option]


def _ended(reply: Reply, ask: Ask) -> Reply:
    """Cut a text at the first stop text, then at the token limit."""
    if reply.text is None:
        return reply
    stops = [stop for stop in ask.stop if stop in reply.text]
    stopped_by = min(stops, key=reply.text.find, default=None)
    text = reply.text.partition(stopped_by)[0] if stopped_by else reply.text
    tokens = pieces(text)
    if ask.max_tokens is not None and len(tokens) > ask.max_tokens:
        text = "".join(tokens[: ask.max_tokens])
        return replace(reply, text=text, finish_reason="length")
    return replace(reply, text=text, stopped_by=stopped_by)
