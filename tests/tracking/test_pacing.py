"""When a call may start, with a clock of the test's own: caps, what a provider lets through, who is down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.store.lock import FileLock
from pytest_llmexp.tracking.board import (
    Board,
    LocalBoard,
    SharedBoard,
    board_path,
    remove_abandoned_boards,
    remove_board,
)
from pytest_llmexp.tracking.counting import Failure
from pytest_llmexp.tracking.outages import Outages, ProviderDown
from pytest_llmexp.tracking.pacer import STEP_S, Pacer
from pytest_llmexp.tracking.pacing import LONGEST_PAUSE_S, Caps, Outage, Pace, Traffic, cap_bucket, settle, start
from pytest_llmexp.tracking.retry_after import retry_after

HERE = "http://127.0.0.1:1"
NO_CAPS = Caps()
seconds = st.floats(0, 90, allow_nan=False)


def most_in_a_minute(times: list[float], weights: list[float] | None = None) -> float:
    """Return the most that any 60 seconds hold."""
    times = sorted(times)
    if weights is None:
        return max(bisect_left(times, first + 60) - place for place, first in enumerate(times))
    sums = [sum(weights[place : bisect_left(times, first + 60)]) for place, first in enumerate(times)]
    return max(sums)


def start_when_open(traffic: Traffic, caps: Caps, now: float, tokens: float = 0.0) -> float:
    """Start a call as soon as it may, and return when that was."""
    for _ in range(10):
        wait = start(traffic, caps, HERE, tokens, now)
        if not wait:
            return now
        assert wait > 0
        now += wait + 1e-9  # of rounding
    raise AssertionError("a call that waited as long as it was told does not start")


# -- caps --------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 1000), st.lists(st.one_of(st.just(0.0), seconds), max_size=300), st.floats(0, 1, exclude_max=True)
)
def test_no_minute_holds_more_requests_than_the_cap(cap: int, gaps: list[float], late: float) -> None:
    """`late` is how much later than others a call may reach the server."""
    traffic, now, starts = Traffic(), 1000.0, []
    for gap in gaps:
        now = start_when_open(traffic, Caps(cap), now + gap)
        starts.append(now)
    arrivals = [began + (late if place % 3 else 0.0) for place, began in enumerate(starts)]
    assert not starts or most_in_a_minute(arrivals) <= cap


@given(st.integers(1, 500))
def test_a_cap_is_used_up(cap: int) -> None:
    traffic, now, starts = Traffic(), 1000.0, 0
    while (now := start_when_open(traffic, Caps(cap), now)) < 1000 + 610:
        starts += 1
    assert starts >= cap * 9.5 - 1


@given(
    st.integers(1, 100_000),
    st.lists(st.tuples(seconds, st.integers(1, 5000), st.integers(0, 5000)), min_size=1, max_size=100),
)
def test_no_minute_holds_more_tokens_than_the_cap_and_one_calls_error(
    cap: int, calls: list[tuple[float, int, int]]
) -> None:
    """Each call is settled before the next starts, so a minute is over the cap by one guess or one call at most."""
    traffic, now, starts = Traffic(), 1000.0, []
    for gap, expected, used in calls:
        now = start_when_open(traffic, Caps(None, cap), now + gap, expected)
        settle(traffic, Caps(None, cap), expected, used)
        starts.append(now)
    used_tokens = [float(used) for _, _, used in calls]
    error = max(max(expected, used) for _, expected, used in calls)
    assert most_in_a_minute(starts, used_tokens) <= cap + 2 * error


def test_a_call_larger_than_the_cap_waits_for_a_full_bucket_and_starts() -> None:
    traffic, caps = Traffic(), Caps(None, 100)
    assert start_when_open(traffic, caps, 1000.0, tokens=1000) == 1000.0
    spent_after = 1000 * cap_bucket(100).interval  # some ten minutes
    assert start_when_open(traffic, caps, 1000.0, tokens=1000) == pytest.approx(1000 + spent_after)


# -- what a provider lets through --------------------------------------------------------------------------------


def test_a_rate_is_halved_once_for_all_calls_that_were_on_their_way() -> None:
    pace = Pace()
    pace.limited(100.0, 99.0, seen_rate=40.0, retry_after_s=None)
    pace.limited(100.1, 99.5, seen_rate=40.0, retry_after_s=None)
    assert pace.rate == 20.0
    pace.limited(101.0, 100.5, seen_rate=40.0, retry_after_s=None)
    assert pace.rate == 10.0


def test_a_pause_is_as_long_as_the_longest_that_was_asked_for_and_no_call_starts_in_it() -> None:
    traffic = Traffic()
    traffic.pace(HERE).limited(100.0, 99.0, 40.0, retry_after_s=7.0)
    traffic.pace(HERE).limited(100.5, 99.0, 40.0, retry_after_s=2.0)
    assert start(traffic, NO_CAPS, HERE, 0, 106.9) == pytest.approx(0.1)
    assert start(traffic, NO_CAPS, "http://elsewhere", 0, 101.0) == 0
    assert start(traffic, NO_CAPS, HERE, 0, 107.0) == 0
    traffic.pace(HERE).limited(107.5, 107.2, 40.0, retry_after_s=86400.0)
    assert start(traffic, NO_CAPS, HERE, 0, 107.5) == LONGEST_PAUSE_S


@given(st.floats(0.2, 1000), st.integers(1, 100), st.booleans())
def test_answers_speed_up_step_by_step_until_nothing_is_limited(seen: float, refusals: int, asks: bool) -> None:
    pace, now = Pace(), 100.0
    for _ in range(refusals):
        pace.limited(now, now - 0.01, seen, 0.5 if asks else None)
        now += 1
    rates = [pace.rate]
    while pace.rate and len(rates) < 100_000:
        pace.answered()
        rates.append(pace.rate)
    assert rates.pop() == 0
    assert rates == sorted(rates)
    assert not pace.opens_at() > now + LONGEST_PAUSE_S


@given(st.floats(0.2, 200), st.integers(1, 5))
def test_a_limited_rate_is_kept(seen: float, refusals: int) -> None:
    traffic, now = Traffic(), 1000.0
    for _ in range(refusals):
        traffic.pace(HERE).limited(now, now - 0.01, seen, None)
        now += 1
    rate = traffic.pace(HERE).rate
    starts = [now := start_when_open(traffic, NO_CAPS, now) for _ in range(50)]
    assert starts[-1] - starts[0] >= (49 - max(1, rate * 0.1)) / rate - 1e-6


def test_calls_of_the_time_before_do_not_slow_down_what_is_free_again() -> None:
    pace = Pace()
    pace.limited(100.0, 99.0, 1.0, None)
    while pace.rate:
        pace.answered()
    pace.limited(130.0, 99.0, 1.0, None)  # its answer took half a minute
    assert pace.rate == 0.5


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 09:00:00 GMT"}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 -0000"}, 30.0),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_what_a_server_asks_for_is_read(headers: dict[str, str], expected: float | None) -> None:
    now = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
    assert retry_after(429, headers, now) == expected
    assert retry_after(503, headers, now) == expected
    assert retry_after(200, headers, now) is None


# -- providers that are down -------------------------------------------------------------------------------------


def fail(outage: Outage, times: Sequence[tuple[float, float]], denied: bool = False, give_up_after: int = 5) -> bool:
    """Let runs fail; each has the time that its last call started and that it ended."""
    for started, ended in times:
        outage.failed(ended, started, "HTTP 500", denied, give_up_after)
    return outage.is_down


ONE_AFTER_THE_OTHER = [(place, place + 0.9) for place in range(20)]


def test_a_provider_is_down_after_so_many_failed_runs_in_a_row() -> None:
    assert not fail(Outage(), ONE_AFTER_THE_OTHER[:4])
    assert fail(Outage(), ONE_AFTER_THE_OTHER[:5])
    assert not fail(Outage(), ONE_AFTER_THE_OTHER[:5], give_up_after=6)


def test_an_answer_ends_the_row() -> None:
    outage = Outage()
    fail(outage, ONE_AFTER_THE_OTHER[:4])
    outage.ended()
    assert not fail(outage, ONE_AFTER_THE_OTHER[4:8])


def test_a_moments_trouble_that_hits_many_runs_at_once_is_no_outage() -> None:
    outage = Outage()
    assert not fail(outage, [(1.0, 2.0 + place / 100) for place in range(16)])
    assert fail(outage, [(2.5, 3.0)])


def test_a_key_that_never_worked_is_refused_three_times_but_one_that_did_is_an_outage_as_any() -> None:
    assert not fail(Outage(), [(1.0, 2.0)] * 2, denied=True)
    assert fail(Outage(), [(1.0, 2.0)] * 3, denied=True)
    assert not fail(Outage(answered=True), [(1.0, 2.0)] * 3, denied=True)
    assert not fail(Outage(denied=0, runs=1, since=0.5), [(0.1, 2.0)] * 3, denied=True)


# -- between processes -------------------------------------------------------------------------------------------


def shared(path: Path) -> SharedBoard:
    return SharedBoard(path, FileLock(path.with_suffix(".lock")).held)


@given(st.builds(Pace, *[st.floats(allow_nan=False)] * 5), st.builds(Outage, st.integers(), last=st.text()))
def test_traffic_survives_the_way_between_processes(pace: Pace, outage: Outage) -> None:
    traffic = Traffic(1.5, 2.5, {HERE: pace}, {HERE: outage})
    assert Traffic.from_plain(json.loads(json.dumps(traffic.to_plain()))) == traffic


def test_boards_of_one_file_show_the_same(tmp_path: Path) -> None:
    one, other = shared(tmp_path / "x" / "traffic"), shared(tmp_path / "x" / "traffic")
    assert one.is_calm
    with one.held() as traffic:
        traffic.pace(HERE).limited(100.0, 99.0, 10.0, 5.0)
    assert not other.is_calm
    with other.held() as traffic:
        assert traffic.pace(HERE).rate == 5.0
        traffic.pace(HERE).rate = 0.0
    assert one.is_calm
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in (tmp_path / "x").iterdir())
    one.close()
    other.close()
    remove_board(tmp_path / "x" / "traffic")
    assert not (tmp_path / "x").exists()


def test_an_update_that_fails_changes_nothing(tmp_path: Path) -> None:
    board = shared(tmp_path / "x" / "traffic")
    with pytest.raises(ZeroDivisionError), board.held() as traffic:
        traffic.requests_until = 5.0
        raise ZeroDivisionError
    with board.held() as traffic:
        assert traffic.requests_until == 0
    board.close()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        shared(tmp_path / "x" / "traffic")


_HOLDER = """
import sys, time
from pathlib import Path
from tests.tracking.test_pacing import shared
board = shared(Path(sys.argv[1]))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="locks files as POSIX does")
def test_boards_are_removed_that_are_old_and_that_no_process_has_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, living, young, mine = (board_path(f"exp_{name}") for name in ("killed", "living", "young", "mine"))
    processes = [
        subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE)
        for path in (killed, living, young)
    ]
    board = shared(mine)
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in (processes[0], processes[2]):
            process.kill()
            process.wait()
        for path in (killed, living, mine):
            for each in (path, path.parent):
                os.utime(each, (1e9, 1e9))
        (tmp_path / "llmexp-exp_link").symlink_to(living.parent)
        (tmp_path / "llmexp-notes").mkdir()
        remove_abandoned_boards()
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {"llmexp-exp_living", "llmexp-exp_young", "llmexp-exp_mine", "llmexp-exp_link", "llmexp-notes"}
        with board.held() as traffic:
            assert traffic.is_calm
    finally:
        board.close()
        for process in processes:
            process.kill()
            process.communicate()
    assert mine.exists()
    for each in (mine, mine.parent):
        os.utime(each, (1e9, 1e9))
    remove_abandoned_boards()
    assert not living.parent.exists()
    assert not mine.parent.exists()


def test_boards_of_two_experiments_are_apart() -> None:
    assert board_path("exp_1") != board_path("exp_2")


_STARTER = """
import sys, time
from pathlib import Path
from tests.tracking.test_pacing import shared
from pytest_llmexp.tracking.pacing import Caps, start
board = shared(Path(sys.argv[1]))
started = 0
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    with board.held() as traffic:
        started += not start(traffic, Caps(500), "http://x", 0, time.monotonic())
print(started)
"""


_COUNTER = """
import sys
from pathlib import Path
from tests.tracking.test_pacing import shared
board = shared(Path(sys.argv[1]))
for _ in range(2000):
    with board.held() as traffic:
        traffic.requests_until += 1
"""


def test_no_update_of_two_processes_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "x" / "traffic"
    counters = [subprocess.Popen([sys.executable, "-c", _COUNTER, str(path)]) for _ in range(2)]
    assert [process.wait(60) for process in counters] == [0, 0]
    board = shared(path)
    with board.held() as traffic:
        assert traffic.requests_until == 4000
    board.close()


def starter(path: Path, how_long: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _STARTER, str(path), str(how_long)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_together_keep_a_cap_also_when_some_are_killed(tmp_path: Path) -> None:
    path = tmp_path / "x" / "traffic"
    killed = [starter(path, 60), starter(path, 60)]
    others = [starter(path, 2), starter(path, 2)]
    for process in killed:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        process.communicate()
    started = [int(process.communicate(timeout=60)[0].split()[-1]) for process in others]
    assert 1 <= sum(started) <= 500
    board = shared(path)
    with board.held() as traffic:
        assert traffic.requests_until > 0
    board.close()


# -- the pacer of a process --------------------------------------------------------------------------------------


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_call_asks_nobody_until_a_provider_objects() -> None:
    class Counted(LocalBoard):
        asked = 0

        def held(self):  # type: ignore[no-untyped-def]
            self.asked += 1
            return super().held()

    board = Counted()
    pacer = Pacer(NO_CAPS, board, clock=Clock())
    for _ in range(100):
        assert not pacer.holds_back
        pacer.answered(HERE, 200, None, pacer.sent(HERE))
        pacer.succeeded(HERE)
        pacer.used("model", 0.0, 100)
    assert board.asked == 1  # the first answer is noted: the key works
    pacer.answered(HERE, 429, None, pacer.sent(HERE))
    assert pacer.holds_back
    assert pacer.limited == 1


def test_calls_start_in_the_order_in_which_they_came() -> None:
    clock = Clock()
    pacer = Pacer(NO_CAPS, LocalBoard(), clock=clock)
    pacer.answered(HERE, 429, 2.0, pacer.sent(HERE))
    waiting = {name: pacer.turn(HERE, 0) for name in ("first", "second", "third")}
    started: list[str] = []
    for name, turn in waiting.items():
        assert 0 < next(turn) <= STEP_S, name
    for _ in range(2000):
        for name in ("third", "second", "first"):
            if name not in started and next(waiting[name], None) is None:
                started.append(name)
        clock.now += 0.01
    assert started == ["first", "second", "third"]


def test_who_gives_up_waiting_does_not_hold_up_the_others() -> None:
    clock = Clock()
    pacer = Pacer(NO_CAPS, LocalBoard(), clock=clock)
    pacer.answered(HERE, 429, 2.0, pacer.sent(HERE))
    first, second = pacer.turn(HERE, 0), pacer.turn(HERE, 0)
    next(first), next(second)
    first.close()
    clock.now += 10
    assert next(second, None) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_forked_child_waits_for_nobody_of_its_parent(tmp_path: Path) -> None:
    pacer = Pacer(Caps(1), shared(tmp_path / "x" / "traffic"))
    assert next(pacer.turn(HERE, 0), None) is None
    ahead = pacer.turn(HERE, 0)
    next(ahead)
    child = os.fork()
    if child == 0:
        own = pacer.turn(HERE, 0)
        os._exit(0 if 0 < next(own) <= STEP_S and len(pacer._lines[HERE]) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_together_keep_a_cap() -> None:
    clock = Clock()
    pacer = Pacer(Caps(100), LocalBoard(), clock=clock)
    started: list[int] = []

    def ask() -> None:
        for _ in range(20):
            turn = pacer.turn(HERE, 0)
            if next(turn, None) is None:
                started.append(1)
            turn.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 5  # the clock stands still


def test_tokens_are_expected_as_the_model_used_them_before() -> None:
    pacer = Pacer(Caps(None, 1000), LocalBoard(), clock=Clock())
    assert pacer.expected("a", 400) == 100
    assert pacer.expected("a", 0) == 1
    pacer.used("a", 100, 500)
    assert pacer.expected("a", 400) == 500
    pacer.used("a", 500, 0)  # a call that failed
    assert pacer.expected("a", 400) == 500
    assert pacer.expected("b", 400) == 100


@pytest.mark.parametrize("of_two", [False, True])
def test_outages_are_seen_by_every_process(tmp_path: Path, of_two: bool) -> None:
    clock = Clock()
    board: Board = shared(tmp_path / "x" / "traffic")
    problems: list[BaseException] = []
    one = Outages(board, 3, problems.append, clock)
    other = Outages(shared(tmp_path / "x" / "traffic"), 3, problems.append, clock) if of_two else one
    for _ in range(3):
        other.check(None, HERE)
        clock.now += 1
        one.failed(Failure(HERE, clock.now - 0.1, "ConnectError: refused", False))
        clock.now += 1
    with pytest.raises(ProviderDown, match=r"not run: provider down: http://\S+ failed 3 runs in a row, the last: Con"):
        other.check(None, HERE)
    other.check(None, "http://elsewhere")
    assert other.leaves_out()
    assert not problems
    assert other.told() == {"kind": "provider", "address": HERE, "failed": 3, "last": "ConnectError: refused"}
