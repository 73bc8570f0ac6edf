"""A SQLite database at the command line: backed up while it is in use, restored over what became of it."""

import sqlite3
from contextlib import closing

import pytest
from command_shell import Shell, shell_in


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> Shell:
    made = shell_in(tmp_path_factory.mktemp("sqlite"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets).code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write("sources: {app: {sqlite: {path: app.db}}, gone: {sqlite: {path: gone.db}}}\n")
    return made


def in_use(path, *statements):
    """A connection in WAL mode whose rows stay in the log."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 0", *statements):
        connection.execute(statement)
    return connection


def names(path):
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM people ORDER BY name")]


@pytest.mark.parametrize("words", [["--overwrite", "always"], ["--delete"]], ids=" ".join)
def test_back_up_break_restore_in_place(shell, words):
    path = shell.directory / "app.db"
    with closing(
        in_use(
            path,
            "DROP TABLE IF EXISTS people",
            "CREATE TABLE people (name TEXT)",
            "INSERT INTO people VALUES ('Ada'), ('Bob')",
        )
    ):
        ran = shell("backup", "--source", "app", "--json")
        assert ran.code == 0, ran.err
    with closing(in_use(path)) as connection:
        connection.execute("DELETE FROM people")
        wal = path.with_name("app.db-wal").read_bytes()
    path.with_name("app.db-wal").write_bytes(wal)  # as a crash leaves it
    path.with_name("app.db-shm").touch()
    ran = shell("restore", f"latest:{path}", "--source", "app", "--to", str(path.parent), *words)
    assert ran.code == 0, ran.err
    assert "app.db-wal of the old database was removed" in ran.err
    assert sorted(each.name for each in path.parent.glob("app.db*")) == ["app.db"]
    assert names(path) == ["Ada", "Bob"]


def test_a_source_without_its_database_fails_and_the_other_is_stored(shell):
    ran = shell("backup", "--json")
    assert ran.code == 1
    assert [row["source"] for row in ran.document["snapshots"]] == ["app"]
    assert "there is no database" in ran.document["failed"][0]["message"]


PLAN = """\
version: 1
id: app
title: The newest copy is sound
scope: scratch
steps:
  - id: restore
    uses: restore
    with: {snapshot: {source: app}, to: {scratch: true, engine: sqlite}}
    outputs: {dsn: dsn}
    milestone: recovered
  - id: same
    uses: compare
    needs: [restore]
    with: {left: "${{ steps.restore.outputs.dsn }}", right: "recorded:app", what: [schema, rowcount]}
  - id: ada
    uses: probe
    needs: [restore]
    with:
      type: sql
      engine: sqlite
      dsn: "${{ steps.restore.outputs.dsn }}"
      query: SELECT count(*) FROM people WHERE name = ?
      params: [Ada]
      expect: {equals: 1}
"""


def test_a_plan_restores_and_asks_it(shell):
    (shell.directory / "app.yaml").write_text(PLAN)
    done = shell("plan", "run", "app.yaml", "--json")
    assert "steps" in done.document, done.out
    steps = {row["id"]: (row["status"], row["detail"]) for row in done.document["steps"]}
    assert {status for status, _ in steps.values()} == {"passed"}, steps
    assert done.code == 0
    assert "schema and rowcount of" in steps["same"][1]
    (shell.directory / "wrong.yaml").write_text(PLAN.replace("engine: sqlite}}", "engine: redis}}"))
    wrong = shell("plan", "run", "wrong.yaml", "--dry-run", "--json")
    assert (wrong.code, "is of sqlite" in wrong.out) == (1, True)
