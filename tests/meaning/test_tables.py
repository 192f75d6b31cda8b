"""The table of programs: what its patterns describe, and that the file we ship can be loaded."""

import json

import pytest

from sidecar.cli import json_schema
from sidecar.meaning import tables
from sidecar.meaning.tables import Programs
from sidecar.rules.loading import SHIPPED


@pytest.mark.parametrize(
    ("path", "is_one"),
    [("/usr/sbin/nginx", True), ("/opt/x/php-fpm8.2", True), ("/usr/bin/nginx-fake", False), ("", False)],
)
def test_a_resolved_file_is_recognised_by_its_base_name(path: str, is_one: bool) -> None:
    assert Programs(files=["nginx", "php-fpm*"]).has_file(path) is is_one


def test_a_star_in_a_path_ends_at_a_folder_and_two_stars_do_not() -> None:
    kind = Programs(paths=["/__e/node*/bin/node", "**/node_modules/.bin/**"])

    assert kind.has_path("/__e/node20/bin/node")
    assert not kind.has_path("/__e/node20/evil/bin/node")
    assert kind.has_path("/srv/app/node_modules/.bin/jest")
    assert not kind.has_path("/srv/app/node_modules/jest")


def test_the_shipped_table_knows_services_boundaries_and_tools() -> None:
    shipped = tables.current()

    assert shipped.services["web_servers"].has_file("/usr/sbin/apache2")
    assert shipped.services["application_servers"].has_script("/usr/local/bin/gunicorn")
    assert shipped.boundaries["job_runners"].has_file("/usr/sbin/cron")
    assert not shipped.boundaries["job_runners"].has_file("/tmp/cron")
    assert shipped.shells.has_file("/usr/bin/dash")


def test_the_published_schema_is_that_of_the_code() -> None:
    published = json.loads((SHIPPED / "programs.schema.json").read_text())

    assert json_schema.for_kind("programs") == published, (
        "run: falco-correlator schema programs > falco_rules/programs.schema.json"
    )
