"""The canary: it listens on a port that has a number."""

from sidecar import marker


def test_it_listens_on_a_port_that_falco_can_name() -> None:
    assert marker.listen() > 0
