"""Whether a service is above a process: at any depth, up to a boundary, and in doubt."""

import pytest

from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.process import Process
from sidecar.correlation.memory.servers import SERVING_TAG, Servers
from sidecar.correlation.pipeline import Pipeline
from sidecar.correlation.serving import service_above
from sidecar.model import Alert, Fields
from sidecar.rules.rule import CorrelationRule

NOW = 1_000
WATCHED_SINCE = 100


def path(*words: str, start: int = 500) -> list[Process]:
    """`/bin/sh < /usr/bin/node /app/x.js`, the process first."""
    images = [word.partition(" ") for word in words]
    names = [image.rpartition("/")[2] for image, _, _ in images]
    return [
        Process(10 + at, name, start, 11 + at, 0, 0, file=image, command=command)
        for at, ((image, _, command), name) in enumerate(zip(images, names, strict=True))
    ]


def judged(*words: str, listens: int = -1, watched: bool = True, host: bool = False) -> tuple[int, str]:
    container = Container("node-1", "" if host else "c1", 1.0, lambda: 0.0)
    processes = path(*words)
    servers = Servers()
    if watched:
        servers.watch("node-1", WATCHED_SINCE)
    if listens >= 0:
        fields = Fields(container_id="" if host else "c1", pid=processes[listens].pid, start=500, evt_type="listen")
        servers.record(Alert(600, "node-1", "x", (SERVING_TAG,), fields))
    return service_above(container, processes, servers, NOW)


SH = "/usr/bin/dash"
NODE = "/usr/local/bin/node /app/x.js"


@pytest.mark.parametrize(
    "chain",
    [
        (SH, "/usr/sbin/nginx"),
        (SH, "/usr/bin/sqlite3", "/usr/lib/jvm/bin/java"),
        (SH, SH, SH, SH, SH, SH, "/usr/sbin/php-fpm8.2"),
    ],
)
def test_a_service_at_any_depth_counts(chain: tuple[str, ...]) -> None:
    assert judged(*chain, watched=False) == (len(chain) - 1, "")


def test_a_runtime_that_listened_is_a_service() -> None:
    assert judged(SH, NODE, listens=1) == (1, "")


def test_a_runtime_below_one_of_the_same_file_that_listened_is_a_service() -> None:
    assert judged(SH, "/usr/local/bin/node worker.js", NODE, listens=2) == (2, "")


def test_a_runtime_that_was_watched_and_never_listened_is_a_job() -> None:
    assert judged(SH, NODE) == (0, "not_serving")


def test_the_job_of_a_job_tool_with_a_port_of_its_own_is_a_job() -> None:
    spark = "/usr/bin/java org.apache.spark.deploy.SparkSubmit"
    assert judged(SH, "/usr/bin/python3 /app/job.py", spark, listens=2) == (0, "not_serving")
    assert judged(SH, spark, listens=1) == (1, "")


def test_a_job_that_a_job_tool_starts_with_its_own_file_is_a_job() -> None:
    airflow = "/usr/bin/python3.11 /usr/local/bin/airflow"
    assert judged(SH, f"{airflow} tasks", f"{airflow} scheduler", listens=2) == (0, "job_tool")


def test_what_never_served_is_declined_for_that_and_not_for_the_runtime_that_started_its_container() -> None:
    shim = "/usr/bin/containerd-shim-runc-v2"
    assert judged(SH, NODE, shim) == (0, "not_serving")
    assert judged(SH, shim) == (0, "boundary")


def test_in_doubt_it_is_a_service() -> None:
    assert judged(SH, NODE, watched=False) == (1, "")


def test_a_script_that_is_named_as_a_job_is_one_in_doubt_unless_a_service_is_above() -> None:
    backup = "/usr/local/bin/node /app/backup.js"
    assert judged(SH, backup, watched=False) == (0, "not_serving")
    assert judged(SH, backup, NODE, watched=False) == (2, "")
    assert judged(SH, backup, listens=1) == (1, "")


def test_nothing_in_a_container_is_older_than_its_first_process() -> None:
    container = Container("node-1", "c1", 1.0, lambda: 0.0)
    first = Fields(
        container_id="c1", pid=9, vpid=1, start=300, name="node", ppid=8, pname="runc", aname1="runc", evt_type="execve"
    )
    container.learn(first, 300)
    servers = Servers()
    servers.watch("node-1", WATCHED_SINCE)
    unknown_starts = path(SH, NODE, start=0)

    assert service_above(container, unknown_starts, servers, NOW) == (0, "not_serving")


def test_in_doubt_it_is_part_of_the_job_that_started_it() -> None:
    assert judged(SH, NODE, SH, "/usr/local/bin/node /usr/local/bin/npm ci", watched=False) == (0, "boundary")
    assert judged(SH, NODE, "/usr/bin/python3 celery worker", watched=False) == (0, "job_tool")


def test_a_boundary_separates_from_the_service_above_it() -> None:
    assert judged(SH, "/usr/sbin/cron", "/usr/sbin/apache2") == (0, "boundary")


def test_a_boundary_that_anybody_could_fake_does_not_separate_from_a_service() -> None:
    assert judged(SH, "/home/x/.vscode-server/node", "/usr/sbin/apache2") == (2, "")
    assert judged(SH, "/usr/bin/runc", "/usr/sbin/apache2") == (2, "")
    assert judged(SH, "/home/x/.vscode-server/node", "/usr/bin/containerd-shim") == (0, "boundary")


def test_a_compiled_server_counts_in_a_container_once_it_listened() -> None:
    assert judged(SH, "/srv/shop", listens=1) == (1, "")
    assert judged(SH, "/srv/shop") == (0, "no_service")
    assert judged(SH, "/srv/shop", listens=1, host=True) == (0, "no_service")


def test_a_program_that_calls_itself_a_service_is_one_and_a_shell_that_does_is_none() -> None:
    disguised = path(SH, "/bin/x")
    disguised[1].name = "php-fpm"
    container = Container("node-1", "c1", 1.0, lambda: 0.0)
    assert service_above(container, disguised, Servers(), NOW) == (1, "")

    disguised[1].file = SH
    assert service_above(container, disguised, Servers(), NOW) == (0, "no_service")


def test_the_ports_that_the_plugin_saw_decide() -> None:
    container = Container("node-1", "c1", 1.0, lambda: 0.0)
    processes = path(SH, NODE)
    processes[1].ports = (8080,)
    assert service_above(container, processes, Servers(), NOW) == (1, "")

    processes[1].ports = ()
    assert service_above(container, processes, Servers(), NOW) == (0, "not_serving")


def test_what_started_before_a_long_absence_is_in_doubt_again(rules: list[CorrelationRule]) -> None:
    fields = Fields(container_id="c1", pid=5, start=90, evt_type="listen", name="canary")
    pipeline = Pipeline(rules, lambda: 0.0)
    pipeline.restore(b"1", Alert(WATCHED_SINCE, "node-1", "Program listens on a port", (SERVING_TAG,), fields))
    assert pipeline.servers.was_watched("node-1", "c1", 500)

    pipeline.mark_restored([(0, 10**15)])
    assert not pipeline.servers.was_watched("node-1", "c1", 500)


AGENT = "/usr/bin/java hudson.remoting.jnlp.Main"


def test_what_an_executor_with_a_port_of_its_own_starts_is_a_job() -> None:
    assert judged(SH, AGENT, listens=1) == (0, "boundary")


def test_the_name_of_an_executor_hides_nothing_below_what_may_be_a_service() -> None:
    assert judged(SH, AGENT, SH, NODE, listens=3) == (3, "")
    assert judged(SH, AGENT, SH, NODE, watched=False) == (3, "")
