"""Who gives when a budget is used up."""

from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.containers import Budget


def container(name: str) -> Container:
    return Container("node-1", name, 100, lambda: 0.0)


def test_a_container_with_nothing_left_to_give_lets_others_of_its_size_give() -> None:
    budget = Budget(100, lambda _: None)
    stubborn, other = container("a"), container("b")
    budget.update(stubborn, 0, 40)
    budget.update(other, 0, 40)
    first = budget.largest()

    budget.defer(stubborn)

    assert (first, budget.largest()) == (stubborn, other)
