"""DuckDB, one thread: the whole file at once, in SQL with window functions. Right, but blind until it is run."""

from collections.abc import Iterable
from pathlib import Path

import common
import duckdb

QUERY = """
with alerts as (
  select output_fields."container.id" || '/' || output_fields."proc.sid" as key,
    epoch_ns(cast("time" as timestamp_ns)) as moment,
    list_contains(tags, 'webrce_web_shell') as w, list_contains(tags, 'webrce_credential') as c,
    list_has_any(tags, ['webrce_network', 'webrce_shell_technique']) as n
  from read_json(?, format = 'newline_delimited', columns = {
    'output_fields': 'struct("container.id" varchar, "proc.sid" bigint)', 'time': 'varchar', 'tags': 'varchar[]'})
), seen as (
  select key, bool_or(w) over past as w, bool_or(n) over past as n, bool_or(c) over past as c
  from alerts where w or c or n
  window past as (partition by key order by moment range between 900000000000 preceding and current row)
)
select distinct key from seen where w and n and c
"""


def work(path: Path) -> Iterable[str]:
    """Run the query."""
    connection = duckdb.connect(config={"threads": 1})
    return [key for (key,) in connection.execute(QUERY, [str(path)]).fetchall()]


if __name__ == "__main__":
    common.run(work)
