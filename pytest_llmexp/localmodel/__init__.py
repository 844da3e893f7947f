"""A loopback server with a small sampling model: the default without a key, and the tests' double.

It speaks as OpenAI, Anthropic, Gemini, Ollama and Amazon Bedrock do. It is not a language model and says so in every
response. Imports the standard library only.
"""

from pytest_llmexp.localmodel import faults
from pytest_llmexp.localmodel.exchange import LABEL, LOCAL_MODEL, SCRIPT_LABEL, ToolCall, Usage
from pytest_llmexp.localmodel.foreground import serve
from pytest_llmexp.localmodel.script import SAMPLE, Answer, Request
from pytest_llmexp.localmodel.server import LocalModelServer

__all__ = [
    "LABEL",
    "LOCAL_MODEL",
    "SAMPLE",
    "SCRIPT_LABEL",
    "Answer",
    "LocalModelServer",
    "Request",
    "ToolCall",
    "Usage",
    "faults",
    "serve",
]
