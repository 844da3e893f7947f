"""Templates are sandboxed: no way to Python's internals or to files, no huge texts; variables are never templates."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp import prompt
from pytest_llmexp.core.errors import PromptError
from pytest_llmexp.tracking.prompts import Prompt
from pytest_llmexp.tracking.sandbox import MAX_RENDERED


def made_of(template: str) -> Prompt[Any]:
    def asking(job: object) -> None: ...

    asking.__doc__ = template
    return prompt("user")(asking)


class Secretive:
    """An object that a test may hand to a prompt."""

    def method(self) -> str:
        return "called"


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ job.__class__.__init__.__globals__ }}",
    "{{ job.method.__globals__['sys'].modules }}",
    "{{ job.method.__func__.__code__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__.os.environ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ dict.__base__.__subclasses__() }}",
    "{{ job['__class__'] }}{{ (job|attr('__class__')).__name__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(job) }}",
    "{{ '{a.__class__}'.format_map({'a': job}) }}",
    "{{ ([job]|map(attribute='__class__')|first).__name__ }}",
    "{% set g = (job.method|attr('__func__'))|attr('__globals__') %}{{ g }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_cannot_reach_pythons_internals(template: str) -> None:
    with pytest.raises(PromptError):
        made_of(template)(Secretive())


@pytest.mark.parametrize(
    "template",
    [
        "{% include '/etc/passwd' %}",
        "{% include job %}",
        "{% import '/etc/passwd' as x %}",
        "{% from 'x' import y %}",
        "{% extends 'base' %}",
    ],
)
def test_a_template_cannot_load_another(template: str) -> None:
    with pytest.raises(PromptError, match="one self-contained text"):
        made_of(template)


def test_a_template_cannot_change_what_it_is_given() -> None:
    job = {"title": "chef"}
    with pytest.raises(PromptError):
        made_of("{{ job.update(title='thief') }}")(job)
    with pytest.raises(PromptError):
        made_of("{{ job.clear() }}")(job)
    assert job == {"title": "chef"}


@pytest.mark.parametrize(
    "text", ["{{7*7}}", "{{ job }}", "{% for x in range(9) %}x{% endfor %}", "{# gone #}", "{{ ''.__class__ }}"]
)
def test_a_variable_is_never_a_template(text: str) -> None:
    assert made_of("Say: {{ job }}")(text) == f"Say: {text}"
    assert made_of("Say: {{ job.text }}")({"text": text}) == f"Say: {text}"


@given(st.text(alphabet="{}%#7*'_ .[]()a", max_size=60))
def test_no_variable_is_ever_a_template(text: str) -> None:
    assert made_of("{{ job }}")(text) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 3000000000 }}",
        "{{ 3000000000 * 'a' }}",
        "{{ 'a' * 3e9 }}",
        "{{ ['a'] * 3000000000 }}",
        "{{ 9 ** 999999999 }}",
        "{{ '%3000000000s' % 'a' }}",
        "{{ '%0*d' % (3000000000, 1) }}",
        "{{ 'a'.ljust(3000000000) }}",
        "{{ 'a'.zfill(3000000000) }}",
        "{{ '\t'.expandtabs(3000000000) }}",
        "{% set n = namespace(t='a' * 1000000) %}{% for _ in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{{ lipsum(n=100000) }}",
        "{{ range(3000000000)|list }}",
    ],
)
def test_a_template_cannot_build_a_huge_value(template: str) -> None:
    with pytest.raises(PromptError):
        made_of(template)("x")


def test_a_rendered_prompt_has_at_most_ten_million_characters() -> None:
    assert MAX_RENDERED == 10_000_000
    assert len(made_of("{{ job }}")("a" * MAX_RENDERED)) == MAX_RENDERED
    for template in ("{{ job }}!", "{% for _ in range(2) %}{{ job }}{% endfor %}"):
        with pytest.raises(PromptError, match="renders to more than 10000000 characters"):
            made_of(template)("a" * MAX_RENDERED)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ '-' * 20 }}", "-" * 20),
        ("{{ 2 ** 10 }} {{ 6 * 7 }} {{ 1 + 2 }}", "1024 42 3"),
        ("{{ 'a' + 'b' }} {{ [1] + [2] }}", "ab [1, 2]"),
        ("{{ '%05.1f %s' % (2.25, 'x') }} {{ 7 % 4 }}", "002.2 x 3"),
        ("{{ '{:,}'.format(12345678901) }}", "12,345,678,901"),
        ("{% for x in range(3) %}{{ loop.index }}{% endfor %}", "123"),
        ("{{ job.method() }}", "called"),
    ],
)
def test_ordinary_templates_work(template: str, text: str) -> None:
    assert made_of(template)(Secretive()) == text


def test_rendering_imports_nothing() -> None:
    before = set(sys.modules)
    made_of("{{ job }}")("x")
    assert set(sys.modules) == before
