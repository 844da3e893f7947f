"""The sampling model: temperature, seed, length, labels. Everything here is seeded or at temperature 0."""

import json
import statistics

import pytest

from pytest_llmexp.localmodel.brevity import Brief, requested_brief
from pytest_llmexp.localmodel.corpus import documents
from pytest_llmexp.localmodel.exchange import Ask, Message, Reply
from pytest_llmexp.localmodel.sampler import sample

JOB = "Give me a name for a job that follows this description: someone who builds full stack AI apps."
PARCEL = "My parcel never arrived, what should I do?"
TICKETS = {
    "My card was charged twice this month, please pay me back.": "billing",
    "Why is the amount on the bill higher than the price on your page?": "billing",
    "I need a receipt with the tax for our bookkeeping.": "billing",
    "You took money from my account two times.": "billing",
    "The program freezes whenever I press the export button.": "technical",
    "After the update the screen stays blank and shows an error.": "technical",
    "Your server does not respond and the page loads forever.": "technical",
    "The calendar crashes in my browser.": "technical",
    "I forgot my password and the reset mail does not come.": "account",
    "How do I change the email address I sign in with?": "account",
    "A new phone means that I lost the second factor and cannot log in.": "account",
    "Please remove the profile of a colleague who left.": "account",
}
LABELS = ["billing", "technical", "account"]


def ask(text: str, temperature: float = 1.0, seed: int | None = None, **more: object) -> Reply:
    return sample(Ask((Message("user", text),), temperature=temperature, seed=seed, **more))[0]  # type: ignore[arg-type]


def distinct(text: str, temperature: float) -> int:
    return len({ask(text, temperature, seed).text for seed in range(50)})


def accuracy(temperature: float, seeds: int) -> float:
    schema = {"type": "object", "properties": {"label": {"enum": LABELS}}, "required": ["label"]}
    hits: list[bool] = [
        json.loads(ask(ticket, temperature, seed, schema=schema).text or "")["label"] == label
        for ticket, label in TICKETS.items()
        for seed in range(seeds)
    ]
    return sum(hits) / len(hits)


def test_training_text_has_some_twenty_thousand_words() -> None:
    texts = list(documents())
    assert 18_000 < sum(len(f"{text.title} {text.text}".split()) for text in texts) < 26_000
    assert texts == list(documents())


@pytest.mark.parametrize("text", [JOB, PARCEL])
def test_temperature_zero_repeats_its_answer(text: str) -> None:
    assert len({ask(text, 0.0).text for _ in range(20)}) == 1


@pytest.mark.parametrize("text", [JOB, PARCEL])
def test_answers_vary_more_at_a_higher_temperature(text: str) -> None:
    counts = [distinct(text, temperature) for temperature in (0.0, 0.3, 0.8, 1.5)]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[1] < counts[-1]


def test_a_small_top_p_narrows_the_choice() -> None:
    narrow = {ask(PARCEL, 1.0, seed, top_p=0.01).text for seed in range(30)}
    assert len(narrow) < distinct(PARCEL, 1.0) / 2


def test_a_seed_repeats_the_answer_and_others_give_others() -> None:
    assert ask(PARCEL, 1.0, 7).text == ask(PARCEL, 1.0, 7).text
    assert ask(PARCEL, 1.0, 7).text != ask(PARCEL, 1.0, 8).text


def test_without_a_seed_answers_differ() -> None:
    assert len({ask(PARCEL, 1.5).text for _ in range(10)}) > 1


def test_different_questions_get_different_answers() -> None:
    questions = [JOB, PARCEL, "I was charged twice.", "The app crashes.", "Lumora has a new phone. Summarise it."]
    assert len({ask(question, 0.0).text for question in questions}) == len(questions)


def test_answers_use_words_of_the_question() -> None:
    assert "AI" in (ask(JOB, 0.0).text or "")
    assert "order" in (ask(PARCEL, 0.0).text or "").lower()


@pytest.mark.parametrize(
    ("text", "brief"),
    [
        ("Say it in at most six words.", Brief(title=True, sentences=1, max_words=6)),
        ("Write 30 words or fewer.", Brief(sentences=2, max_words=30)),
        ("Use 20 or fewer words.", Brief(sentences=1, max_words=20)),
        ("Summarise in one sentence.", Brief(sentences=1)),
        ("Write three short sentences.", Brief(sentences=3)),
        ("Be brief.", Brief(sentences=1)),
        (JOB, Brief(title=True)),
        ("Write a detailed report.", Brief(sentences=5)),
        ("Tell me about parcels.", None),
    ],
)
def test_length_is_read_from_the_request(text: str, brief: Brief | None) -> None:
    assert requested_brief(text) == brief


def test_brevity_is_kept_at_temperature_zero_and_loosely_above() -> None:
    asked = "Describe what happened to my parcel in at most six words."
    lengths = [len((ask(asked, 1.5, seed).text or "").split()) for seed in range(60)]
    assert len((ask(asked, 0.0).text or "").split()) <= 6
    assert statistics.mean(lengths) < statistics.mean(
        len((ask(PARCEL, 1.5, seed).text or "").split()) for seed in range(60)
    )


def test_tickets_are_classified_well_at_zero_and_worse_when_hot() -> None:
    cold, hot = accuracy(0.0, 1), accuracy(1.5, 20)
    assert cold >= 0.8
    assert 1 / 3 < hot < cold - 0.1


def test_a_choice_in_plain_text_is_one_of_the_options() -> None:
    options = "Answer with one of: positive, negative or neutral."
    assert ask(f"I love this product, it is a pleasure. {options}", 0.0).text == "positive"
    assert ask(f"Terrible, I am very disappointed. {options}", 0.0).text == "negative"


def test_a_choice_is_made_between_labels_of_any_words() -> None:
    reply = ask("The app crashes with an error. Reply with feature_request or bug-report.", 0.0)
    assert reply.text == "bug-report"


def test_text_without_a_known_word_is_answered() -> None:
    assert ask("zzz qqq", 0.0).text
    assert ask("", 1.0, 1).text
