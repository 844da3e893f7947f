"""Every sampled value fits its schema."""

import json
from datetime import date, datetime
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from pytest_llmexp.localmodel.exchange import Ask, Message
from pytest_llmexp.localmodel.sampler import sample


class Topic(Enum):
    BILLING = "billing"
    TECHNICAL = "technical"


class Priority(IntEnum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    city: str = Field(min_length=2, max_length=20)
    zip_code: int = Field(ge=10_000, le=99_999)


class Person(BaseModel):
    name: str
    email: str | None
    address: Address
    previous: list[Address] = Field(default_factory=list, max_length=2)


class Ticket(BaseModel):
    topic: Topic
    priority: Priority
    is_urgent: bool
    tags: list[str] = Field(min_length=2, max_length=4)
    confidence: float = Field(ge=0, le=1)
    kind: Literal["ticket"]


class Tree(BaseModel):
    label: str
    children: list["Tree"]


class Linked(BaseModel):
    value: int
    next: "Linked | None" = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(gt=0, lt=10)


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Pets(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(min_length=3, max_length=3)
    favourite: Cat | Dog | None


class Moments(BaseModel):
    day: date
    moment: datetime
    id: UUID


class Scores(BaseModel):
    by_name: dict[str, int]
    pair: tuple[int, str]
    even: int = Field(multiple_of=2, ge=1, le=9)
    labels: set[Literal["a", "b", "c"]] = Field(min_length=2)
    above: float = Field(gt=0, lt=0.001)
    anything: Any


MODELS: list[type[BaseModel]] = [Address, Person, Ticket, Tree, Linked, Pets, Moments, Scores]


def value_of(schema: dict[str, Any], temperature: float, seed: int, text: str = "Describe a job in 5 words.") -> Any:
    asked = Ask((Message("user", text),), temperature=temperature, seed=seed, schema=schema)
    return json.loads(sample(asked)[0].text or "")


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("model", MODELS)
def test_values_validate_as_their_model(model: type[BaseModel], temperature: float) -> None:
    schema = model.model_json_schema()
    for seed in range(30):
        model.model_validate(value_of(schema, temperature, seed))


def bounded(low: int, width: int) -> Any:
    return Annotated[int, Field(ge=low, le=low + width)]


def real(low: float, width: float) -> Any:
    return Annotated[float, Field(ge=low, le=low + width)]


def text_of(low: int, more: int) -> Any:
    return Annotated[str, Field(min_length=low, max_length=low + more)]


def list_of(item: Any, low: int, more: int) -> Any:
    return Annotated[list[item], Field(min_length=low, max_length=low + more)]


numbers = st.builds(bounded, st.integers(-1000, 1000), st.integers(0, 50))
reals = st.builds(real, st.floats(-100, 100), st.floats(0, 50))
texts = st.builds(text_of, st.integers(0, 60), st.integers(0, 60))
labels = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4).map(lambda names: Literal[tuple(names)])
plain: st.SearchStrategy[Any] = numbers | reals | texts | labels | st.just(bool) | st.just(str)
types = st.recursive(
    plain,
    lambda inner: (
        st.builds(list_of, inner, st.integers(0, 3), st.integers(0, 3))
        | inner.map(lambda kind: kind | None)
        | st.tuples(inner, inner).map(lambda kinds: kinds[0] | kinds[1])
        | inner.map(lambda kind: dict[str, kind])  # type: ignore[valid-type]
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(types, st.floats(0, 2), st.integers(0, 1000))
def test_any_schema_is_satisfied(kind: Any, temperature: float, seed: int) -> None:
    adapter = TypeAdapter(kind)
    adapter.validate_python(value_of(adapter.json_schema(), temperature, seed), strict=True)


def test_optional_properties_are_sometimes_left_out() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a"]}
    keys = {tuple(value_of(schema, 1.5, seed)) for seed in range(40)}
    assert keys == {("a",), ("a", "b")}


def test_integers_lie_about_the_centre_and_spread_with_temperature() -> None:
    schema = {"type": "object", "properties": {"rating": {"type": "integer", "minimum": 1, "maximum": 9}}}
    ratings = {
        temperature: {value_of(schema | {"required": ["rating"]}, temperature, seed)["rating"] for seed in range(60)}
        for temperature in (0.0, 0.5, 2.0)
    }
    assert ratings[0.0] == {5}
    assert len(ratings[0.5]) < len(ratings[2.0])


def test_names_are_short_and_descriptions_are_not() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "description": {"type": "string"}}}
    job = value_of(schema | {"required": ["name", "description"]}, 0.0, 0, "Invent someone who builds AI apps.")
    assert len(job["name"].split()) <= 8
    assert len(job["description"].split()) > len(job["name"].split())
