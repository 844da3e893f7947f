"""Floor 1. The store: what experiments recorded. Knows core only; nothing else imports SQLAlchemy.

The names load late: the thread that writes pays for importing SQLAlchemy, not the start of the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmexp.store.doctor import Diagnosis, diagnose
    from pytest_llmexp.store.opening import open_store
    from pytest_llmexp.store.recorded import StoredAnswers
    from pytest_llmexp.store.salvaging import salvage
    from pytest_llmexp.store.store import Store
    from pytest_llmexp.store.usage import CallTotals, ModelUsage, UnpricedCall, UsageByTest, UsageOfTest
    from pytest_llmexp.store.writer import Writer

__all__ = [
    "CallTotals",
    "Diagnosis",
    "ModelUsage",
    "Store",
    "StoredAnswers",
    "UnpricedCall",
    "UsageByTest",
    "UsageOfTest",
    "Writer",
    "diagnose",
    "open_store",
    "salvage",
]

_MODULES = {
    "CallTotals": "usage",
    "Diagnosis": "doctor",
    "ModelUsage": "usage",
    "Store": "store",
    "StoredAnswers": "recorded",
    "UsageOfTest": "usage",
    "UsageByTest": "usage",
    "UnpricedCall": "usage",
    "Writer": "writer",
    "diagnose": "doctor",
    "open_store": "opening",
    "salvage": "salvaging",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # start-up cost: SQLAlchemy takes 0.3 s

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
