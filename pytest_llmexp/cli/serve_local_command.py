"""`llmexp serve-local`."""

from __future__ import annotations

import click

from pytest_llmexp.localmodel import serve


@click.command("serve-local")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one")
def command(port: int) -> None:
    """Serve the built-in stand-in for a model (not an LLM) on 127.0.0.1 until Ctrl-C.

    Any OpenAI client can use it: base URL http://127.0.0.1:PORT/v1, any key, any model name. Clients of Anthropic,
    Gemini, Ollama and Amazon Bedrock can too: http://127.0.0.1:PORT.
    """
    serve("127.0.0.1", port)
