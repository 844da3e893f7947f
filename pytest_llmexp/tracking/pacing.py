"""When a call may start: caps of requests and tokens per minute, and what each provider lets through. Pure.

A cap is a bucket with one number, the time until which its allowance is spent (the generic cell rate algorithm). A
provider that says 429 gets half the rate it was sent, after the pause it asked for, and a little more with every
answer: additive increase, multiplicative decrease. Times are those of one monotonic clock, in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

PERIOD_S = 61.0  # a minute, and a second for what is on its way: calls may reach the server closer than they started
LONGEST_PAUSE_S = 60.0  # a provider that asks for more is as good as down
DECREASE = 0.5
RECOVERY_S = 20.0  # in which a rate grows by what it was when the provider objected
LEAST_STEP = 0.5  # calls per second that a rate grows in a second, at least: the first guess may be far too low
LEAST_RATE = 0.1
_ROUNDING_S = 1e-6
BURST_S = 0.1  # calls of so many seconds may start at once: sleeping is not exact
DENIED_RUNS = 3  # a key that never worked is not going to


class Caps(NamedTuple):
    """Requests and tokens per minute that an experiment may send; None is no cap."""

    requests: int | None = None
    tokens: int | None = None


class Bucket(NamedTuple):
    """An allowance of one unit each `interval` seconds, of which `burst` units may be saved up."""

    burst: float
    interval: float

    def opens_at(self, spent_until: float, cost: float = 1.0) -> float:
        """Return the time from which `cost` units can be spent; what is more than a full bucket waits for that."""
        return spent_until - (self.burst - min(cost, self.burst)) * self.interval

    def spend(self, spent_until: float, now: float, cost: float = 1.0) -> float:
        """Return until when the allowance is spent, with `cost` units more."""
        return max(spent_until, now) + cost * self.interval


def cap_bucket(cap: int) -> Bucket:
    """Return the bucket that lets through at most `cap` units in any minute, a twentieth of them at once.

    >>> cap_bucket(100).burst, round(cap_bucket(100).interval, 3), cap_bucket(1)
    (5, 0.635, Bucket(burst=1, interval=61.0))
    """
    burst = max(1, cap // 20)
    return Bucket(burst, PERIOD_S / (cap - burst + 1))


@dataclass(slots=True)
class Pace:
    """What one provider lets through: `rate` calls per second, 0 as long as it did not object."""

    rate: float = 0.0
    peak: float = 0.0  # the rate at which it objected last
    paused_until: float = 0.0
    spent_until: float = 0.0
    slowed_at: float = 0.0

    def opens_at(self) -> float:
        """Return the time from which a call may start."""
        if not self.rate:
            return self.paused_until
        return max(self.paused_until, self._bucket().opens_at(self.spent_until))

    def start(self, now: float) -> None:
        """Note that a call starts."""
        if self.rate:
            self.spent_until = self._bucket().spend(self.spent_until, now)

    def limited(self, now: float, started: float, seen_rate: float, retry_after_s: float | None) -> None:
        """Slow down: the provider refused a call for its rate.

        Calls that had `started` before the last time are of that time. `seen_rate` is what was sent per second.
        """
        if started > self.slowed_at or not self.rate:
            self.peak = self.rate or max(seen_rate, LEAST_RATE)
            self.rate = max(LEAST_RATE, self.peak * DECREASE)
            self.slowed_at = now
            self.spent_until = 0.0
        pause = 1 / self.rate if retry_after_s is None else retry_after_s
        self.paused_until = max(self.paused_until, now + min(pause, LONGEST_PAUSE_S))

    def answered(self) -> None:
        """Speed up: an answer came. At twice the rate it objected to, there is no limit any more."""
        if self.rate:
            self.rate += max(self.peak / RECOVERY_S, LEAST_STEP) / self.rate
            if self.rate >= 2 * self.peak:
                self.rate = 0.0

    def _bucket(self) -> Bucket:
        return Bucket(max(1.0, self.rate * BURST_S), 1 / self.rate)


@dataclass(slots=True)
class Outage:
    """Runs in a row that ended as errors because a provider gave no answer."""

    runs: int = 0
    since: float = 0.0  # when the first of them ended
    denied: int = 0  # of them, those whose key was refused
    last: str = ""
    answered: bool = False  # whether the provider has ever answered
    is_down: bool = False

    def failed(self, now: float, started: float, what: str, denied: bool, give_up_after: int) -> None:
        """Count a run whose last call, which `started` then, failed.

        The provider is down if so many failed in a row, one of them with a call that started after the first had
        failed: a moment's trouble that hits many at once is none. A key that never worked is refused but three times.
        """
        if not self.runs:
            self.since = now
        self.runs, self.denied, self.last = self.runs + 1, self.denied + denied, what
        stays_down = self.runs >= give_up_after and started > self.since
        wrong_key = not self.answered and self.runs == self.denied >= min(DENIED_RUNS, give_up_after)
        self.is_down = self.is_down or stays_down or wrong_key

    def ended(self) -> None:
        """Note that the provider answered."""
        self.runs, self.denied, self.answered = 0, 0, True


@dataclass(slots=True)
class Traffic:
    """What all processes of an experiment know of its calls. `requests_until` and `tokens_until` are the caps'."""

    requests_until: float = 0.0
    tokens_until: float = 0.0
    paces: dict[str, Pace] = field(default_factory=dict)  # by address, as outages
    outages: dict[str, Outage] = field(default_factory=dict)

    def pace(self, address: str) -> Pace:
        """Return what is known of an address."""
        return self.paces.setdefault(address, Pace())

    def outage(self, address: str) -> Outage:
        """Return what is known of an address."""
        return self.outages.setdefault(address, Outage())

    def answered(self, address: str) -> None:
        """Note that a provider answered."""
        self.pace(address).answered()
        self.outage(address).ended()

    @property
    def is_calm(self) -> bool:
        """Whether no provider objects, or fails: then a call need not ask."""
        return not any(pace.rate for pace in self.paces.values()) and not any(
            outage.runs for outage in self.outages.values()
        )

    def to_plain(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Traffic:
        """Make it from what `to_plain` returned."""
        paces = {address: Pace(**each) for address, each in plain["paces"].items()}
        outages = {address: Outage(**each) for address, each in plain["outages"].items()}
        return cls(plain["requests_until"], plain["tokens_until"], paces, outages)


def start(traffic: Traffic, caps: Caps, address: str, tokens: float, now: float) -> float:
    """Let a call start, or say how long it must wait at least.

    Args:
        traffic: What is known; a call that starts is noted in it.
        caps: The caps of the experiment.
        address: The provider's.
        tokens: What the call is expected to use up.
        now: The time.

    Returns:
        0 if the call starts, else seconds until it is worth asking again.
    """
    pace = traffic.paces.get(address)
    requests = cap_bucket(caps.requests) if caps.requests else None
    volume = cap_bucket(caps.tokens) if caps.tokens else None
    opens_at = max(
        pace.opens_at() if pace else now,
        requests.opens_at(traffic.requests_until) if requests else now,
        volume.opens_at(traffic.tokens_until, tokens) if volume else now,
    )
    if opens_at > now + _ROUNDING_S:
        return opens_at - now
    if pace:
        pace.start(now)
    if requests:
        traffic.requests_until = requests.spend(traffic.requests_until, now)
    if volume:
        traffic.tokens_until = volume.spend(traffic.tokens_until, now, tokens)
    return 0.0


def settle(traffic: Traffic, caps: Caps, expected: float, used: float) -> None:
    """Correct what a call was expected to use up to what it did."""
    if caps.tokens:
        traffic.tokens_until += (used - expected) * cap_bucket(caps.tokens).interval
