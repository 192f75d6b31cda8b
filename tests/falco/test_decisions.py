"""Each decision of docs/services-and-jobs.md is shown by a play, which other tests of this folder run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "services-and-jobs.md"
DATA = ROOT / "tests" / "data"
SHOWN_BY = {
    "Notebooks (Jupyter)": ("c24_jupyter_dataset_s3", "open_jupyter_miner"),
    "CI and workflow controllers (Jenkins, GitLab, Airflow's web server)": ("jenkins_script_console",),
    "CI agents and executors (GitLab and GitHub runners, Buildkite, Tekton, Argo, Jenkins agents)": (
        "gitlab_runner_pod_job",
        "arc_runner_shell_step",
        "buildkite_agent_job",
        "tekton_step_script_uploads",
        "argo_workflow_step_python",
        "jenkins_agent_pod_builds",
    ),
    "Builds and tests (npm, Maven, Gradle, MSBuild, Jest, Playwright)": (
        "c19_dotnet_msbuild_exec",
        "jest_with_supertest_servers",
    ),
    "Coding agents, remote editors": ("c13_claude_code_agent_in_container", "c14_openvscode_server_terminal"),
    "CronJobs, batch jobs": ("c27_cronjob_node_backup_aws_slack", "cronjob_python_etl"),
    "Queue workers (Celery, Sidekiq, `queue:work`)": ("sidekiq_worker_converts_and_uploads",),
    "Database operators (CloudNativePG, Spilo, Percona)": (
        "c06_cnpg_barman_irsa",
        "c04_spilo_walg_irsa_envdir_quoted",
        "c01_pxc_sst_xtrabackup_joiner",
    ),
    "A job that listens for metrics": ("job_with_a_metrics_port", "pyspark_driver_copies_results"),
    "Development servers (`vite`, `webpack serve`, `flask run`)": ("dev_server_in_a_container",),
}


def decisions() -> list[str]:
    table = PAGE.read_text().partition("## Decisions")[2].partition("\n## ")[0]
    return [row.split("|")[1].strip() for row in table.splitlines() if row.startswith("| ")][1:]


def test_every_decision_names_its_plays() -> None:
    assert decisions() == [*SHOWN_BY]


@pytest.mark.parametrize("play", [play for plays in SHOWN_BY.values() for play in plays])
def test_the_play_exists(play: str) -> None:
    plays = "".join(path.read_text() for path in (DATA / "plays").glob("*.yaml"))
    assert (DATA / "field_cases" / f"{play}.md").exists() or re.search(rf"^- name: {play}$", plays, re.MULTILINE)
