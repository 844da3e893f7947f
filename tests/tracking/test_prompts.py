"""@prompt: what a template is, what identifies it, what it refuses, and when its use is recorded."""

from __future__ import annotations

import copy
import pickle
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from pytest_llmexp import SimpleBot, prompt
from pytest_llmexp.core.errors import PromptError
from pytest_llmexp.core.ids import tagged_hash
from pytest_llmexp.core.models import PromptVersion, Record
from pytest_llmexp.tracking.prompts import Message, Prompt
from tests.tracking.conftest import Lab


@prompt("system")
def manager(kind: object = "kind") -> None:
    """You are a {{ kind }} manager."""


def defined(docstring: str | None, *parameters: str, role: str = "user", name: str = "asking") -> Prompt[Any]:
    """Return the prompt that a function of this docstring is."""
    namespace: dict[str, Any] = {}
    exec(f"def {name}({', '.join(parameters)}): pass", namespace)
    function: Callable[..., Any] = namespace[name]
    function.__doc__ = docstring
    function.__module__ = "prompts_of_a_test"
    return prompt(role)(function)


@pytest.mark.parametrize("depth", range(1, 6))
def test_hash_is_the_same_at_every_nesting_depth(depth: int) -> None:
    def source(indent: int) -> str:
        body = '@prompt("user")\ndef ask(job):\n    """Name it.\n\n      - job: {{ job }}\n    - and say why\n    """\n'
        nested = "".join(f"{'    ' * level}class C{level}:\n" for level in range(indent))
        return nested + textwrap.indent(body, "    " * indent)

    def version_at(indent: int) -> Any:
        namespace: dict[str, Any] = {"prompt": prompt, "__name__": "nested"}
        exec(source(indent), namespace)
        found = namespace["C0" if indent else "ask"]
        for level in range(1, indent):
            found = getattr(found, f"C{level}")
        return (found.ask if indent else found).version

    assert version_at(depth).hash == version_at(0).hash
    assert version_at(depth).template == "Name it.\n\n  - job: {{ job }}\n- and say why"


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_hash_is_the_same_with_every_kind_of_newline(newline: str) -> None:
    text = "Name it.\n\n    - {{ job }}\n      deeper\n    \n    "
    there, here = (defined(text.replace("\n", mark), "job").version for mark in (newline, "\n"))
    assert (there.hash, there.template) == (here.hash, here.template)


def test_hash_covers_role_and_template_and_carries_its_algorithm() -> None:
    asked = defined("Name it.").version
    assert asked.hash == tagged_hash("prompt", "user", "Name it.")
    assert asked.hash.startswith("sha256:")
    assert defined("Name it.", role="system").version.hash != asked.hash
    assert defined("Name it!").version.hash != asked.hash


def test_equal_texts_under_two_names_are_two_prompts(lab: Lab) -> None:
    one, other = defined("Name it.", name="one"), defined("Name it.", name="other")
    with lab.run():
        one(), other()
    versions = lab.store.prompt_versions(lab.id)
    assert {version.name for version in versions} == {"prompts_of_a_test.one", "prompts_of_a_test.other"}
    assert len({version.hash for version in versions}) == 1


def test_unknown_variables_are_named_at_decoration() -> None:
    with pytest.raises(PromptError, match=r"asking uses jobb, kidn, but its parameters are: job, kind"):
        defined("{{ jobb }} {{ kidn }} {{ kind }}", "job", "kind")
    with pytest.raises(PromptError, match="uses job, but its parameters are: none"):
        defined("{{ job }}")


@pytest.mark.parametrize("docstring", [None, "", "  \n  "])
def test_a_missing_docstring_is_an_error_at_decoration(docstring: str | None) -> None:
    with pytest.raises(PromptError, match=r"prompts_of_a_test\.asking has no docstring"):
        defined(docstring)


@pytest.mark.parametrize("role", ["assistent", "", "User", None, ["user"]])
def test_an_unknown_role_is_an_error_that_lists_the_known_ones(role: Any) -> None:
    with pytest.raises(PromptError, match="allowed: system, developer, user, assistant"):
        prompt(role)


def test_decorating_without_a_role_says_how_to() -> None:
    def ask() -> None:
        """Name it."""

    with pytest.raises(PromptError, match=r"write @prompt\('user'\) above the function"):
        prompt(ask)  # type: ignore[arg-type]


def test_only_functions_are_prompts() -> None:
    class Asking:
        """Name it."""

    with pytest.raises(PromptError, match="decorates a function"):
        prompt("user")(Asking)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ job ", "unexpected end of template"),
        ("line\n{% if %}", "line 2"),
        ("{{ job | no_such_filter }}", "no_such_filter"),
        ("{{ job is no_such_test }}", "no_such_test"),
        ("{{ job | center(80) }}", "center"),
    ],
)
def test_templates_that_do_not_parse_are_errors_at_decoration(template: str, reason: str) -> None:
    with pytest.raises(PromptError, match=reason):
        defined(template, "job")


def test_undefined_values_raise() -> None:
    with pytest.raises(PromptError, match="no attribute 'title'"):
        defined("{{ job.title }}", "job")({})
    assert defined("{{ job.title }}", "job")({"title": "chef"}) == "chef"


def test_wrong_arguments_are_an_error_that_names_the_prompt() -> None:
    with pytest.raises(PromptError, match=r"manager\(kind: 'object' = 'kind'\).*knd"):
        manager(knd="data")  # type: ignore[call-arg]


def test_exceptions_of_a_template_name_the_prompt() -> None:
    with pytest.raises(PromptError, match=r"asking cannot be rendered: ZeroDivisionError"):
        defined("{{ 1 / job }}", "job")(0)


def test_defaults_are_variables_too() -> None:
    assert manager() == "You are a kind manager."
    assert manager().variables == {"kind": "kind"}


def test_none_renders_as_none() -> None:
    assert defined("job: {{ job }}", "job")(None) == "job: None"


def test_nothing_is_escaped() -> None:
    assert defined("{{ job }}", "job")("<b> & \"quotes\" 'too'") == "<b> & \"quotes\" 'too'"


def test_interpolated_text_keeps_its_indentation() -> None:
    code = "def f():\n    if x:\n\treturn 1\n"
    assert defined("Review:\n\n    {{ code }}\n    Thanks.", "code")(code) == f"Review:\n\n{code}\nThanks."


@given(st.text())
def test_a_variable_arrives_as_it_is(text: str) -> None:
    assert defined("[{{ job }}]", "job")(text) == f"[{text}]"


def test_a_rendered_prompt_is_a_text_with_a_role_and_a_memory() -> None:
    message = manager("data science")
    assert isinstance(message, str)
    assert (message.role, message.content) == ("system", "You are a data science manager.")
    assert type(message.content) is str
    assert message.version is manager.version
    for twin in (copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert (twin, twin.role, twin.version, twin.use_id) == (
            message,
            message.role,
            message.version,
            message.use_id,
        )


def test_a_use_is_recorded_when_rendered_in_a_run(lab: Lab) -> None:
    with lab.run() as run:
        manager("data science")
    (use,) = lab.store.prompt_uses(lab.id)
    assert (use.run_id, use.hash, use.name) == (run.run.id, manager.version.hash, manager.version.name)
    assert use.variables == {"kind": "data science"}


def test_a_prompt_rendered_before_the_run_is_recorded_in_each_run_that_sends_it(lab: Lab) -> None:
    system, asked = manager("data science"), defined("Name it.")()
    bot = SimpleBot(system)
    runs = []
    for index in (1, 2):
        with lab.run(index=index) as run:
            bot(asked), bot(asked)
            runs.append(run.run.id)
    with lab.run(index=3):
        pass
    used = sorted((use.run_id, use.name) for use in lab.store.prompt_uses(lab.id))
    names = (manager.version.name, "prompts_of_a_test.asking")
    assert used == sorted((run, name) for run in runs for name in names)


def test_a_prompt_inside_a_message_dict_is_recorded_when_sent(lab: Lab) -> None:
    asked = defined("Name it.")()
    with lab.run() as run:
        SimpleBot()({"role": "user", "content": asked})
    assert [(use.run_id, use.name) for use in lab.store.prompt_uses(lab.id)] == [
        (run.run.id, "prompts_of_a_test.asking")
    ]


def test_a_prompt_rendered_and_sent_in_a_run_is_one_use(lab: Lab) -> None:
    with lab.run():
        SimpleBot(manager("data"))("hello")
        assert len(lab.store.prompt_uses(lab.id)) == 1
        manager("data")
    assert len(lab.store.prompt_uses(lab.id)) == 2


def test_a_prompt_sent_by_a_raw_client_was_recorded_when_rendered(lab: Lab) -> None:
    with lab.run(), OpenAI(base_url=lab.server.base_url, api_key="x") as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": manager("data")}])
    assert len(lab.store.prompt_uses(lab.id)) == 1
    assert lab.call().request["messages"][0]["content"] == "You are a data manager."


def test_going_back_to_a_text_is_a_third_event(lab: Lab) -> None:
    for index, text in enumerate(["A", "B", "A"], start=1):
        with lab.run(index=index):
            defined(text)()
    uses = lab.store.prompt_uses(lab.id)
    texts = {version.hash: version.template for version in lab.store.prompt_versions(lab.id)}
    assert [texts[use.hash] for use in sorted(uses, key=lambda use: use.id)] == ["A", "B", "A"]
    assert sorted(texts.values()) == ["A", "B"]


def test_a_use_is_handed_on_after_its_version_also_by_another_thread(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    handing_on, other_is_done = threading.Event(), threading.Event()
    put = lab.recording._writer.put

    def slow(*records: Record, lazily: bool = False) -> Future[None]:
        if any(isinstance(record, PromptVersion) for record in records):
            handing_on.set()
            other_is_done.wait(0.5)
        return put(*records, lazily=lazily)

    monkeypatch.setattr(lab.recording._writer, "put", slow)

    def other() -> None:
        handing_on.wait(10)
        with lab.run(index=2):
            manager()
        lab.flush()
        other_is_done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with lab.run(index=1):
        manager()
    thread.join()
    assert lab.close() == []
    assert len(lab.store.prompt_uses(lab.id)) == 2


def test_outside_of_a_run_nothing_is_recorded(lab: Lab) -> None:
    manager("data")
    assert lab.close() == []
    assert lab.store.prompt_uses(lab.id) == []


def test_a_message_is_not_a_use_without_a_version(lab: Lab) -> None:
    with lab.run():
        SimpleBot(Message("You are kind.", "system"))("hello")
    assert lab.store.prompt_uses(lab.id) == []
