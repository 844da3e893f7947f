"""pytest-llmexp: LLM experiments as ordinary pytest tests. Names load on first use, so importing costs nothing."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmexp.runtest.fixture_types import BotFactory, ExperimentRun, RecordMetric
    from pytest_llmexp.standalone import Experiment
    from pytest_llmexp.store import open_store
    from pytest_llmexp.tracking.bots import (
        AsyncSimpleBot,
        AsyncStructuredBot,
        AsyncToolBot,
        SimpleBot,
        StructuredBot,
        ToolBot,
    )
    from pytest_llmexp.tracking.dialogue import Reply
    from pytest_llmexp.tracking.metrics import metric
    from pytest_llmexp.tracking.prompts import Message, Prompt, prompt
    from pytest_llmexp.tracking.repeats import experiment
    from pytest_llmexp.tracking.steps import step

__all__ = [
    "AsyncSimpleBot",
    "AsyncStructuredBot",
    "AsyncToolBot",
    "BotFactory",
    "Experiment",
    "ExperimentRun",
    "Message",
    "Prompt",
    "RecordMetric",
    "Reply",
    "SimpleBot",
    "StructuredBot",
    "ToolBot",
    "experiment",
    "metric",
    "open_store",
    "prompt",
    "step",
]
_MODULES = {
    **dict.fromkeys((name for name in __all__ if name.endswith("Bot")), "tracking.bots"),
    **dict.fromkeys(("BotFactory", "ExperimentRun", "RecordMetric"), "runtest.fixture_types"),
    "Experiment": "standalone",
    "experiment": "tracking.repeats",
    "metric": "tracking.metrics",
    "open_store": "store",
    **dict.fromkeys(("Message", "Prompt", "prompt"), "tracking.prompts"),
    "Reply": "tracking.dialogue",
    "step": "tracking.steps",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # start-up cost

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
