"""Measure a classifier on labelled cases: eight support tickets, each with the label that a person gave it.

Every ticket is a case with its own rows in the table; the rows of the test itself weigh all cases the same. To look
at one case, deselect the others as always in pytest: `pytest example_suite/test_tickets.py -k parcel_lost -v`.
"""

from typing import Literal

import pytest
from pydantic import BaseModel

from pytest_llmexp import BotFactory, ExperimentRun, RecordMetric, prompt

TICKETS = {
    "charged_twice": ("I was charged twice for the yearly plan in June.", "billing"),
    "card_declined": ("My card was declined, but the bill is correct.", "billing"),
    "crash": ("The app crashes when I open the dashboard.", "technical"),
    "slow_page": ("Since the update the report page freezes.", "technical"),
    "locked_out": ("I cannot log in, my password is not accepted.", "account"),
    "new_email": ("Please change the email address of my profile.", "account"),
    "parcel_lost": ("My parcel was due on Monday and has not arrived.", "shipping"),
    "wrong_item": ("You sent me the wrong item in a damaged box.", "shipping"),
}


# A Literal (or an Enum) leaves the model no other labels.
class Triage(BaseModel):
    """The label of a support ticket."""

    label: Literal["billing", "technical", "account", "shipping"]


@prompt("system")
def triage_sysprompt() -> None:
    """You sort support tickets. The labels are: billing, technical, account, shipping."""


@prompt("user")
def sort_ticket(ticket: str) -> None:
    """Which label fits this ticket? {{ ticket }}"""


@pytest.mark.experiment(n=5, gates=["pass_rate(correct) >= 0.5"])
@pytest.mark.parametrize(("ticket", "expected"), TICKETS.values(), ids=TICKETS)
def test_triage(
    bot: BotFactory, record_metric: RecordMetric, experiment_run: ExperimentRun, ticket: str, expected: str
) -> None:
    classify = bot(triage_sysprompt(), output=Triage)
    label = classify(sort_ticket(ticket)).label
    experiment_run.record(input=ticket, output=label, expected=expected)  # recorded: what to look at when it is wrong
    record_metric("correct", label == expected)  # recorded: its mean is the accuracy, of a case and of all
