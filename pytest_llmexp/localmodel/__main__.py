"""python -m pytest_llmexp.localmodel: serve the sampling model until Ctrl-C."""

import argparse
import functools

from pytest_llmexp.localmodel.foreground import serve


def main(arguments: list[str] | None = None) -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_llmexp.localmodel",
        description="Serve a small sampling model on loopback, over the APIs of OpenAI, Anthropic, Gemini, Ollama and "
        "Amazon Bedrock; it is not a language model",
    )
    parser.add_argument("--host", default="127.0.0.1", help="Address to bind")
    parser.add_argument("--port", type=int, default=8080, help="Port to bind; 0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="Delay before every answer")
    options = parser.parse_args(arguments)
    serve(options.host, options.port, latency_s=options.latency, announce=functools.partial(print, flush=True))


if __name__ == "__main__":
    main()
