"""What lets several items be set up at once in one process: pytest's own bookkeeping knows only one.

Imported only to overlap runs; `fits` says whether the installed pytest has the parts that are replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from threading import RLock
from typing import Any

import pytest
from _pytest.runner import SetupState
from _pytest.scope import Scope


class ParkingSetupState(SetupState):
    """A SetupState that can set aside an item that is set up, and take it back before its teardown.

    pytest's stack ends with the one item that is set up ("previous item was not torn down properly"). Parking
    takes the item's own entry off it and leaves those of its class, module and session.
    """

    def __init__(self) -> None:
        super().__init__()
        self._parked: dict[Any, Any] = {}

    def park(self, item: pytest.Item) -> None:
        """Take an item off the stack, if its setup came so far that it is on it."""
        if item in self.stack:
            self._parked[item] = self.stack.pop(item)

    def unpark(self, item: pytest.Item) -> None:
        """Put a parked item back on top of the stack."""
        if item in self._parked:
            self.stack[item] = self._parked.pop(item)

    def is_node_active(self, node: Any) -> bool:
        """Say whether a node is set up."""
        return node in self._parked or node in self.stack  # not super(): pytest asks for it since 9.0

    def addfinalizer(self, finalizer: Callable[[], object], node: Any) -> None:
        """Add a finalizer to a node; a body in flight adds it to its parked item."""
        if node in self._parked:
            self._parked[node][0].append(finalizer)
        else:
            super().addfinalizer(finalizer, node)


class OwnFixtureDefs(dict[str, Any]):
    """An item's fixture definitions, with copies of those of function scope.

    A FixtureDef caches one value, and the runs of a test share its FixtureDefs: without copies the second run to
    be set up would be given the fixtures of the first. `refused` says why a name must not be asked for at run time.
    """

    def __init__(self, item: pytest.Function, refused: Callable[[str], str | None]) -> None:
        self._item = item
        self._refused = refused
        self._scopes = _scopes_of_parameters(item)
        self._copies: list[Any] = []
        shared = item._request._arg2fixturedefs
        super().__init__({name: self._own(name, definitions) for name, definitions in shared.items()})

    def get(self, name: str, default: Any = None) -> Any:
        """Return a fixture's definitions; those of a name that was unknown at collection are copied when asked for."""
        if name not in self:
            if message := self._refused(name):
                pytest.fail(message, pytrace=False)
            definitions = self._item.session._fixturemanager.getfixturedefs(name, self._item)
            if definitions is None:
                return default
            self[name] = self._own(name, definitions)
        return self[name]

    def _own(self, name: str, definitions: Any) -> Any:
        return tuple(map(self._copy, definitions)) if self._is_per_item(name, definitions) else definitions

    def _is_per_item(self, name: str, definitions: Any) -> bool:
        scope = self._scopes.get(name) or definitions[-1]._scope
        if scope is Scope.Class:  # a class fixture used outside a class belongs to the item
            return self._item.getparent(pytest.Class) is None
        return scope is Scope.Function

    def _copy(self, definition: Any) -> Any:
        own = copy.copy(definition)
        own._finalizers = []
        own.cached_result = None
        self._copies.append(own)
        return own

    def leave_wider_fixtures(self) -> None:
        """Take the finalizers of this item's fixtures, which were torn down, out of those that they used."""
        for own in self._copies:
            for name in own.argnames:
                for used in dict.get(self, name, ()):  # not by our own get: "request" is no fixture of a conftest
                    _remove_finalizer(used._finalizers, own)


def _remove_finalizer(finalizers: list[Any], own: Any) -> None:
    for index, finalizer in enumerate(finalizers):  # items are torn down in order: it is among the first
        if getattr(getattr(finalizer, "func", None), "__self__", None) is own:
            del finalizers[index]
            break


def _scopes_of_parameters(item: pytest.Function) -> dict[str, Scope]:
    callspec = getattr(item, "callspec", None)
    return dict(callspec._arg2scope) if callspec else {}


def wide_parameters(item: pytest.Function) -> tuple[tuple[str, int], ...]:
    """Return the parameters of an item that outlive it, with the index of their value.

    Setting up an item with another value ends what the fixture made of this one.
    """
    indices = item.callspec.indices
    scopes = _scopes_of_parameters(item)
    return tuple(sorted((name, indices[name]) for name, scope in scopes.items() if scope is not Scope.Function))


def give_own_fixtures(item: pytest.Function, refused: Callable[[str], str | None], turns: RLock) -> None:
    """Let an item have fixtures of its own, whatever other items are set up.

    Two bodies may ask at once for a module's fixture that nothing has set up yet: they take turns.
    """
    request: Any = item._request
    request._arg2fixturedefs = OwnFixtureDefs(item, refused)
    ask = request.getfixturevalue

    def in_turn(argname: str) -> Any:
        with turns:
            return ask(argname)

    request.getfixturevalue = in_turn


def forget_fixtures(item: pytest.Function) -> None:
    """Let go of an item that was torn down, as pytest does.

    pytest leaves in every wider fixture a finalizer of each fixture that used it, and with it all that this had.
    """
    request: Any = item._request
    own = request._arg2fixturedefs
    if isinstance(own, OwnFixtureDefs):
        own.leave_wider_fixtures()
        del request.getfixturevalue, request._arg2fixturedefs  # which refer to the request
    item._request, item.funcargs = False, None  # type: ignore[assignment]


def install(session: pytest.Session) -> ParkingSetupState:
    """Make a session's bookkeeping one that can park items; nothing may be set up yet."""
    session._setupstate = state = ParkingSetupState()
    return state


def fits(item: pytest.Function) -> None:
    """Raise AttributeError, KeyError or TypeError if pytest lacks what is replaced here."""
    if type(item.session._setupstate) is not SetupState or item.session._setupstate.stack:
        raise TypeError("another plugin has replaced pytest's SetupState")
    for name in ("stack", "setup", "addfinalizer", "teardown_exact"):
        getattr(SetupState(), name)
    wide_parameters(item)
    OwnFixtureDefs(item, lambda name: None).leave_wider_fixtures()
    for definitions in item._request._arg2fixturedefs.values():
        for definition in definitions:
            _ = definition._scope, definition._finalizers, definition.cached_result, definition.argnames
