"""Who gets which items: windows, groups, suspects. Nodes here only note what they are sent."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_llmexp.runtest.distributed import share
from pytest_llmexp.runtest.scheduling import RunScheduling, group_of, is_run


class Node:
    """What a scheduler sees of a worker."""

    def __init__(self, limit: int = 4, suspects: Sequence[str] = ()) -> None:
        self.limit = limit
        self.suspects = list(suspects)
        self.sent: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


class Crew:
    """What is known of the workers."""

    def __init__(self) -> None:
        self.reported: set[str] = set()

    def share(self, node: Node) -> int:
        return node.limit

    def suspects(self, node: Node) -> list[str]:
        return node.suspects

    def was_reported(self, node: Node, node_id: str) -> bool:
        return node_id in self.reported

    def forget(self, node: Node, node_id: str) -> None:
        self.reported.discard(node_id)


def runs(test: str, count: int) -> list[str]:
    return [f"test_a.py::{test}[run{index}]" for index in range(1, count + 1)]


def scheduling(collection: list[str], nodes: list[Node], mode: str = "load") -> RunScheduling:
    made = RunScheduling(None, collection, nodes, mode, Crew())
    made.schedule()
    return made


def finish(scheduler: RunScheduling) -> list[int]:
    """Complete items in turn, one a worker, until nothing is left; return them in order."""
    done: list[int] = []
    while any(scheduler.node2pending.values()):
        for node in scheduler.nodes:
            held = scheduler.node2pending[node]
            if len(held) >= 2 or (held and node.shutting_down):
                done.append(held[0])
                scheduler.mark_test_complete(node, held[0])
    return done


@pytest.mark.parametrize("mode", ["load", "worksteal", "loadfile", "loadscope", "loadgroup"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 400])
def test_every_item_is_executed_once(mode: str, count: int) -> None:
    collection = [*runs("test_x", count), "test_b.py::test_plain", *runs("test_y", 3)]
    nodes = [Node(), Node(), Node()]
    assert sorted(finish(scheduling(collection, nodes, mode))) == list(range(len(collection)))
    assert all(node.shutting_down for node in nodes)


def test_a_worker_holds_a_window_larger_than_what_it_has_in_flight() -> None:
    nodes = [Node(limit=8), Node(limit=8)]
    scheduling(runs("test_x", 500), nodes)
    assert [len(node.sent) for node in nodes] == [12, 12]


def test_one_experiment_is_shared_by_all_workers_to_its_end() -> None:
    nodes = [Node(limit=4), Node(limit=4)]
    scheduler = scheduling(runs("test_x", 100), nodes)
    while scheduler._count:
        for node in nodes:
            assert len(scheduler.node2pending[node]) > node.limit
            scheduler.mark_test_complete(node, scheduler.node2pending[node][0])
    assert abs(len(nodes[0].sent) - len(nodes[1].sent)) <= 6


def test_small_experiments_stay_whole() -> None:
    nodes = [Node(), Node()]
    collection = [each for number in range(8) for each in runs(f"test_{number}", 4)]
    scheduler = scheduling(collection, nodes)
    finish(scheduler)
    owners = [{node for node in nodes if set(range(first, first + 4)) & set(node.sent)} for first in range(0, 32, 4)]
    assert all(len(nodes_of_one) == 1 for nodes_of_one in owners)


@pytest.mark.parametrize(
    ("mode", "group"),
    [
        ("load", "a/test_a.py::TestC::test_x[0.0"),
        ("loadfile", "a/test_a.py"),
        ("loadscope", "a/test_a.py::TestC"),
        ("loadgroup", "a/test_a.py::TestC::test_x[0.0"),
    ],
)
def test_groups(mode: str, group: str) -> None:
    assert group_of("a/test_a.py::TestC::test_x[0.0-run12]", mode) == group


def test_a_named_group_counts_with_loadgroup() -> None:
    assert group_of("test_a.py::test_x[run1]@db", "loadgroup") == "db"
    assert group_of("test_a.py::test_x[a@b-run1]", "loadgroup") == "test_a.py::test_x[a@b"


def test_ids_of_runs_are_recognised() -> None:
    assert is_run("test_a.py::test_x[run1]")
    assert is_run("test_a.py::test_x[0.0-run12]")
    assert not is_run("test_a.py::test_x[running]")
    assert not is_run("test_a.py::test_run1")


def test_a_plain_test_that_ends_its_worker_is_blamed() -> None:
    node, other = Node(), Node()
    scheduler = scheduling(["test_a.py::test_a", "test_a.py::test_b", "test_a.py::test_c"], [node, other])
    assert scheduler.remove_node(node) == "test_a.py::test_a"
    assert scheduler.suspects == []


def test_runs_in_flight_in_a_dead_worker_are_suspects_for_the_one_that_takes_its_place() -> None:
    collection = runs("test_x", 20)
    node, other = Node(limit=4), Node(limit=4)
    scheduler = scheduling(collection, [node, other])
    held = [collection[index] for index in scheduler.node2pending[node]]
    assert scheduler.remove_node(node) is None
    assert scheduler.suspects == held
    assert not set(held) & {collection[index] for index in other.sent}
    replacement = Node(limit=4, suspects=scheduler.suspects)
    scheduler.add_node(replacement)
    scheduler.add_node_collection(replacement, collection)
    scheduler.schedule()
    assert [collection[index] for index in replacement.sent[: len(held)]] == held
    scheduler.mark_test_complete(replacement, replacement.sent[0])
    assert scheduler.remove_node(replacement) == held[1]
    assert scheduler.suspects == held[2:]


def test_a_worker_is_not_ended_before_it_has_collected() -> None:
    collection = runs("test_x", 10)
    nodes = [Node(limit=4), Node(limit=4)]
    scheduler = scheduling(collection, nodes)
    for node in nodes:
        scheduler.remove_node(node)
    third, fourth = (Node(limit=4, suspects=scheduler.suspects) for _ in range(2))
    scheduler.add_node(third)
    scheduler.add_node(fourth)
    scheduler.add_node_collection(third, collection)
    scheduler.schedule()
    assert len(third.sent) == 10
    scheduler.remove_node(third)  # what it leaves goes to the fourth, who was told of it too
    scheduler.add_node_collection(fourth, collection)
    scheduler.schedule()
    assert len(fourth.sent) == 9
    assert fourth.shutting_down


def test_what_cannot_be_sent_to_a_dying_worker_goes_to_another() -> None:
    class Dying(Node):
        def send_runtest_some(self, indices: list[int]) -> None:
            raise OSError("cannot send (already closed?)")

    collection = runs("test_x", 10)
    dying, other = Dying(), Node()
    scheduler = scheduling(collection, [dying, other])
    assert scheduler.remove_node(dying) is None
    assert scheduler.suspects == []
    assert sorted(finish(scheduler)) == list(range(10))


def test_with_one_run_at_a_time_the_one_is_blamed() -> None:
    node, other = Node(limit=1), Node(limit=1)
    collection = runs("test_x", 20)
    scheduler = scheduling(collection, [node, other])
    held = scheduler.node2pending[node][0]
    assert scheduler.remove_node(node) == collection[held]
    assert scheduler.suspects == []


def test_a_run_whose_result_came_is_not_executed_again() -> None:
    node, other = Node(limit=4), Node(limit=4)
    collection = runs("test_x", 20)
    crew = Crew()
    scheduler = RunScheduling(None, collection, [node, other], "load", crew)
    scheduler.schedule()
    crew.reported.add(collection[node.sent[0]])
    scheduler.remove_node(node)
    assert collection[node.sent[0]] not in scheduler.suspects


@pytest.mark.parametrize(
    ("total", "workers", "shares"), [(8, 1, [8]), (8, 3, [3, 3, 2]), (64, 2, [32, 32]), (2, 4, [1, 1, 1, 1])]
)
def test_workers_share_the_limit(total: int, workers: int, shares: list[int]) -> None:
    assert [share(total, workers, position) for position in range(workers)] == shares
