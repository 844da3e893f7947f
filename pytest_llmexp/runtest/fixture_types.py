"""What the fixtures give to a test: types to annotate with, and the run in progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pytest_llmexp.core.models import Better
    from pytest_llmexp.tracking.prompts import Message
    from pytest_llmexp.tracking.recorder import RunRecorder


class RecordMetric(Protocol):
    """The type of the `record_metric` fixture."""

    def __call__(
        self,
        name: str,
        value: object,
        *,
        better: Better | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> None: ...


class BotFactory(Protocol):
    """The type of the `bot` and `async_bot` fixtures."""

    def __call__(
        self,
        system_prompt: str | Message | None = None,
        *,
        model: str | None = None,
        temperature: float | None = None,
        output: type[BaseModel] | None = None,
        tools: Sequence[Callable[..., Any]] | None = None,
        name: str | None = None,
        **parameters: Any,
    ) -> Any: ...


class ExperimentRun:
    """The run in progress: its `index` (from 1), `case` (the id of its parameters), `params` and `id`."""

    def __init__(self, recorder: RunRecorder) -> None:
        self._recorder = recorder

    @property
    def id(self) -> str:
        """The run's id in the store."""
        return self._recorder.run.id

    @property
    def index(self) -> int:
        """Which run of its case this is, from 1."""
        return self._recorder.run.run_index

    @property
    def case(self) -> str:
        """The id of the test's parameters, empty for a test without parameters."""
        return self._recorder.run.case_id

    @property
    def params(self) -> Mapping[str, Any]:
        """The test's parameters as they are stored."""
        return self._recorder.run.params

    def tag(self, **tags: str) -> None:
        """Tag the run: `experiment_run.tag(language="de")`."""
        self._recorder.tag(**tags)

    def record(self, **parts: Any) -> None:
        """Keep the run's `input=`, `output=` or `expected=`, anything with a JSON form, beside its calls."""
        allowed = ("input", "output", "expected")
        if unknown := [part for part in parts if part not in allowed]:
            raise TypeError(f"record() takes {', '.join(allowed)}, not {', '.join(unknown)}")
        self._recorder.describe(**parts)
