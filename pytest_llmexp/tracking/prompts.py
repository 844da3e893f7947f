"""`@prompt`: a function whose docstring is a template, identified by its text. Knows core and the recorder."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, cast

import jinja2
from jinja2 import meta, nodes

from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.errors import PromptError
from pytest_llmexp.core.ids import new_id, tagged_hash
from pytest_llmexp.core.jsonable import jsonable
from pytest_llmexp.core.models import Json, PromptVersion
from pytest_llmexp.tracking.sandbox import MAX_RENDERED, Sandbox
from pytest_llmexp.tracking.scope import current_run

P = ParamSpec("P")
ROLES = ("system", "developer", "user", "assistant")
_LOADING = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_environment = Sandbox()


class Message(str):
    """A text with a role; a rendered prompt also knows its version and variables."""

    __slots__ = ("role", "use_id", "variables", "version")
    role: str
    use_id: str
    version: PromptVersion | None
    variables: Mapping[str, Json]

    def __new__(
        cls,
        content: str,
        role: str = "user",
        version: PromptVersion | None = None,
        variables: Mapping[str, Json] | None = None,
    ) -> Message:
        message = super().__new__(cls, content)
        message.role = role
        message.version = version
        message.variables = variables or {}
        message.use_id = new_id("use")
        return message

    @property
    def content(self) -> str:
        """The text itself."""
        return str(self)

    def note_use(self) -> None:
        """Record this rendered prompt as part of the run in progress, if there is one."""
        if self.version and (run := current_run()):
            run.use_prompt(self.use_id, self.version, self.variables)


class Prompt(Generic[P]):
    """A template that is called like the function it was written as."""

    def __init__(self, function: Callable[P, Any], role: str) -> None:
        if not inspect.isfunction(function):
            raise PromptError(f"@prompt decorates a function whose docstring is the template, not {function!r}")
        functools.update_wrapper(self, function)
        self._signature = inspect.signature(function)
        self.version = _version(function, role, tuple(self._signature.parameters))
        self._template = _environment.from_string(self.version.template)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Message:
        """Render the template and return the message; inside a run, the use is recorded."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise PromptError(f"prompt {self.version.name}{self._signature}: {error}") from None
        bound.apply_defaults()
        variables = dict(bound.arguments)
        message = Message(self._render(variables), self.version.role, self.version, jsonable(variables))
        message.note_use()
        return message

    def _render(self, variables: Mapping[str, Any]) -> str:
        pieces, size = [], 0
        try:
            for piece in self._template.generate(variables):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_RENDERED:
                    raise PromptError(f"prompt {self.version.name} renders to more than {MAX_RENDERED} characters")
        except PromptError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
            raise PromptError(f"prompt {self.version.name} cannot be rendered: {reason}") from error
        return "".join(pieces)


def prompt(role: str) -> Callable[[Callable[P, Any]], Prompt[P]]:
    """Make a function's docstring a Jinja2 template whose variables are the function's parameters.

    `role` is one of system, developer, user, assistant. Calling the function renders the template to a
    `Message` (a str with a role); PromptError if a value is missing or the text exceeds ten million characters.
    The text decides the version: `sha256` over role and template. Raises PromptError at decoration for an
    unknown role, a missing docstring, a template that does not parse, and variables that are no parameters.
    """
    if not isinstance(role, str) or role not in ROLES:
        hint = f"; write @prompt({'user'!r}) above the function" if callable(role) else ""
        raise PromptError(f"unknown role {role!r}; allowed: {', '.join(ROLES)}{hint}")
    return lambda function: Prompt(function, role)


def _version(function: Callable[..., Any], role: str, parameters: tuple[str, ...]) -> PromptVersion:
    name = f"{function.__module__}.{function.__qualname__}"
    if not (function.__doc__ or "").strip():
        raise PromptError(f"prompt {name} has no docstring; the docstring is the template")
    # newlines first: cleandoc takes a carriage return for text
    template = inspect.cleandoc(cast(str, function.__doc__).replace("\r\n", "\n").replace("\r", "\n"))
    _check(name, template, parameters)
    return PromptVersion(
        hash=tagged_hash("prompt", role, template),
        name=name,
        role=role,
        template=template,
        parameters=parameters,
        first_seen_at=utc_now(),
    )


def _check(name: str, template: str, parameters: tuple[str, ...]) -> None:
    try:
        tree = _environment.parse(template)
        unknown = meta.find_undeclared_variables(tree) - set(parameters) - set(_environment.globals)
        _environment.from_string(template)  # finds filters and tests that do not exist
    except jinja2.TemplateSyntaxError as error:
        raise PromptError(f"prompt {name}, line {error.lineno} of its template: {error.message}") from None
    if any(tree.find_all(_LOADING)):
        raise PromptError(f"prompt {name} uses include, import or extends; a prompt is one self-contained text")
    if unknown:
        has = ", ".join(parameters) or "none"
        raise PromptError(
            f"prompt {name} uses {', '.join(sorted(unknown))}, but its parameters are: {has}; add a parameter"
        )
