"""A live PostgreSQL server backed up from the command line, and the example plan that restores and proves it."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from command_shell import Shell, shell_in
from postgresql_server import postgresql

from drtool.sources.postgresql.scratch_server import ScratchServer

__all__ = ["postgresql"]
PLAN = Path(__file__).parents[2] / "plans/database.yaml"
PROBE = """\
  - id: asked
    uses: probe
    needs: [restore]
    with:
      type: sql
      engine: postgresql
      dsn: "${{ steps.restore.outputs.dsn }}"
      query: SELECT count(*) FROM sales.items WHERE note = $1
      params: [item 77]
      expect: {equals: 1}
report:"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory, postgresql: ScratchServer) -> Shell:
    made = shell_in(tmp_path_factory.mktemp("postgresql"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets).code == 0
    dsn = f"host={postgresql.directory} user=postgres"
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write(
            f"sources:\n  orders: {{postgresql: {{dsn: '{dsn}', databases: [orders]}}}}\n"
            "  away: {postgresql: {dsn: host=/nowhere}}\n"
        )
    ran = made("backup", "--source", "orders")
    assert ran.code == 0, ran.err
    return made


@pytest.mark.thorough
def test_a_server_that_is_away_is_a_failure_with_a_reason(shell):
    ran = shell("backup", "--source", "away")
    assert (ran.code, ran.out) == (1, "")
    assert "PostgreSQL at /nowhere" in ran.err


@pytest.mark.thorough
def test_the_example_plan_proves_the_newest_dump(shell):
    plan = shell.directory / "database.yaml"
    plan.write_text(PLAN.read_text().replace("report:", PROBE))
    dry = shell("plan", "run", "database.yaml", "--dry-run", "--json")
    assert (dry.code, dry.document["verdict"]) == (0, "simulated"), dry.out
    steps = {row["id"]: row["detail"] for row in dry.document["steps"]}
    assert "orders of postgresql" in steps["restore"]
    done = shell("plan", "run", "database.yaml", "--json")
    steps = {row["id"]: (row["status"], row["detail"]) for row in done.document["steps"]}
    assert steps["restore"][0] == "passed", steps
    assert "rowcount and schema as recorded" in steps["restore"][1]
    assert steps["counts"][0] == steps["asked"][0] == steps["recent"][0] == "passed", steps
    assert done.document["leftovers"] == []
    assert shell("scratch", "list", "--json").document["spaces"] == []
    report = shell("plan", "report", done.document["run_id"], "--json").document
    (outputs,) = (row["outputs"] for row in report["steps"] if row["id"] == "restore")
    (place,) = parse_qs(urlsplit(outputs["dsn"]).query)["host"]
    assert not Path(place).exists(), "a scratch server outlived its run"
    assert steps["readable"][0] == "passed", steps
    assert (done.code, done.document["verdict"], done.document["unproven"]) == (0, "passed", [])
    rpo = done.document["objectives"]["rpo"]
    assert 0 <= rpo["measured"] < 600


def test_a_restored_database_that_lost_a_row_fails_the_plan(shell, postgresql):
    plan = shell.directory / "compare.yaml"
    plan.write_text(
        "version: 1\nid: cmp\ntitle: t\nscope: scratch\nsteps:\n"
        "  - {id: same, uses: compare, with: {left: 'postgresql://postgres@/orders?host="
        f"{postgresql.directory}', right: 'recorded:orders', what: [schema, rowcount]}}}}\n"
    )
    postgresql.client.ask("DELETE FROM sales.items WHERE id = 3", "orders")
    done = shell("plan", "run", "compare.yaml", "--json")
    assert done.code == 1
    assert "49999 rows; 50000 rows recorded" in done.document["steps"][0]["detail"]
    postgresql.client.ask("INSERT INTO sales.items (id, note) VALUES (3, 'item 3')", "orders")


@pytest.mark.thorough
def test_a_person_loads_it_into_a_server(shell, postgresql):
    dsn = f"host={postgresql.directory} user=postgres"
    refused = shell("restore", "latest", "--source", "orders", "--to-dsn", dsn, "--json")
    assert (refused.code, "has a database orders" in refused.error["message"]) == (11, True)
    assert shell("restore", "latest", "--source", "orders", "--to-dsn", dsn, "--dry-run").code == 11
    postgresql.client.ask("ALTER DATABASE orders RENAME TO before")
    try:
        dry = shell("restore", "latest", "--source", "orders", "--to-dsn", dsn, "--dry-run", "--json")
        assert (dry.code, dry.document["databases"]) == (0, ["orders"])
        assert "orders" not in {row[0] for row in postgresql.client.ask("SELECT datname FROM pg_database")}
        done = shell("restore", "latest", "--source", "orders", "--to-dsn", dsn, "--json")
        assert (done.code, done.document["errors"]) == (0, []), done.err
        assert done.document["compared"] == ["rowcount", "schema"]
        assert postgresql.client.ask("SELECT count(*) FROM sales.items", "orders") == [["50000"]]
        assert list((shell.directory / "state/staging").iterdir()) == []
        postgresql.client.ask("DROP DATABASE orders")
    finally:
        postgresql.client.ask("ALTER DATABASE before RENAME TO orders")
