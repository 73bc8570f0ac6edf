"""A live PostgreSQL server: everything of it comes back, proven by queries; what fails leaves no snapshot."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from postgresql_server import postgresql

from drtool.errors import DrtoolError, Refused
from drtool.operations.backup import SourceJob
from drtool.operations.inventories import recorded
from drtool.sources.inventory import Database
from drtool.sources.postgresql import Client, PostgresqlSource
from drtool.sources.postgresql.dsn import dsn_environment, of_database
from drtool.sources.postgresql.putback import compared_schemas, differences, put_back
from drtool.sources.postgresql.roles import without_roles
from drtool.sources.postgresql.scratch_server import ScratchServer, programs_of

__all__ = ["postgresql"]


def stored(world, dsn, *, environ=None, dry_run=False, **more):
    job = SourceJob(name="orders", captured=PostgresqlSource(dsn, **more))
    with world.open() as repository:
        return world.run_jobs(repository, job, environ=environ or dict(os.environ), dry_run=dry_run).snapshots[0]


def fails(world, dsn, **more):
    before = world.snapshots()
    with pytest.raises(DrtoolError) as caught:
        stored(world, dsn, **more)
    assert world.snapshots() == before
    assert caught.value.exit_code == 1
    return caught.value.message


def test_everything_comes_back_and_is_proven(world, postgresql, tmp_path):
    report = stored(world, postgresql.dsn)
    assert report.errors == []
    assert world.restore(tmp_path / "out").errors == []
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()} == {
        "postgresql/globals.sql",
        "postgresql/inventory.json",
        *(
            f"postgresql/{name}/{file}"
            for name in ("orders", "odd%2Fname", "postgres")
            for file in ("dump.pgc", "schema.sql")
        ),
    }
    assert "CREATE VIEW sales.few" in (tmp_path / "out/postgresql/orders/schema.sql").read_text()
    with world.open() as repository:
        inventory = recorded(repository, list(repository.view.state.snapshots)[-1])
    assert inventory.server_version.startswith(str(postgresql.client.major("psql")))
    row = next(row for row in inventory.databases if row.name == "orders")
    assert row.rows == {"sales.items": 50_000, "sales.sums": 1, "public.empty_one": 0, 'public."Quoted ""Table"': 2}
    assert row.consistent_at.endswith("Z")

    told = []
    server = ScratchServer((), os.environ)
    try:
        chosen = put_back(server.client, inventory, tmp_path / "out", scratch=True, tell=told.append)
        assert not [line for line in told if "globals" in line]
        assert server.client.ask("SELECT note FROM sales.few ORDER BY id LIMIT 1", "orders") == [["item 1"]]
        assert server.client.ask("SELECT sales.twice(21)", "orders") == [["42"]]
        assert server.client.ask("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'clerk'") == [["t"]]
        assert differences(server.client, chosen, tmp_path / "out") == []
        with server.client.session("orders") as session:
            session.ask("DELETE FROM sales.items WHERE id = 7")
            session.ask("DROP VIEW sales.few")
        found = differences(server.client, chosen, tmp_path / "out")
        assert [row.detail for row in found if row.what == "rowcount"] == ["49999 rows; 50000 rows recorded"]
        assert any("CREATE VIEW sales.few" in row.detail for row in found if row.what == "schema")
        with pytest.raises(Refused, match="orders"):
            put_back(server.client, inventory, tmp_path / "out", scratch=False, databases=["orders"], tell=told.append)
    finally:
        assert server.stop() == []
    assert not server.directory.exists()


@pytest.mark.thorough
def test_one_database_into_a_server_that_lives(world, postgresql, tmp_path):
    stored(world, postgresql.dsn, databases=["orders"])
    world.restore(tmp_path / "out")
    with world.open() as repository:
        inventory = recorded(repository, list(repository.view.state.snapshots)[-1])
    assert [row.name for row in inventory.databases] == ["orders"]
    postgresql.client.ask("ALTER DATABASE orders RENAME TO old_orders")
    postgresql.client.ask("ALTER ROLE clerk PASSWORD 'changed' CONNECTION LIMIT 7")
    hashed = postgresql.client.ask("SELECT rolpassword FROM pg_authid WHERE rolname = 'clerk'")
    try:
        chosen = put_back(postgresql.client, inventory, tmp_path / "out", scratch=False, tell=lambda _: None)
        assert differences(postgresql.client, chosen, tmp_path / "out") == []
        role = "SELECT rolpassword, rolconnlimit FROM pg_authid WHERE rolname = 'clerk'"
        assert postgresql.client.ask(role) == [[*hashed[0], "7"]], "a role of the living server was changed"
    finally:
        postgresql.client.ask("DROP DATABASE orders")
        postgresql.client.ask("ALTER DATABASE old_orders RENAME TO orders")


@pytest.mark.thorough
def test_a_dump_of_the_same_rows_stores_next_to_nothing(world, postgresql):
    first, again = (stored(world, postgresql.dsn, databases=["orders"]) for _ in range(2))
    assert again.parent == first.id
    assert again.files.new == 0
    assert again.added_bytes < first.added_bytes * 3 / 4  # the times in it move some cuts


def test_servers_that_cannot_be_dumped(world, postgresql, tmp_path):
    assert "PostgreSQL at /nowhere" in fails(world, "host=/nowhere user=postgres")
    assert 'role "nobody_known" does not exist' in fails(world, f"host={postgresql.directory} user=nobody_known")
    assert "no database 'missing'" in fails(world, postgresql.dsn, databases=["missing"])
    assert "there is no program psql" in fails(world, postgresql.dsn, environ={"PATH": str(tmp_path)})


def test_a_password_is_nowhere(world, postgresql):
    message = fails(world, f"postgresql://postgres:s3cret@/nodb?host={postgresql.directory}")
    assert "nodb" in message
    assert "s3cret" not in message


def test_an_older_client_is_refused_before_anything(world, postgresql, tmp_path):
    """The programs are real ones that say that they are of version 9."""
    for name in ("psql", "pg_dump", "pg_dumpall"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && echo "{name} (PostgreSQL) 9.6" && exit\nexec {postgresql.programs}/{name} "$@"\n'
        )
        program.chmod(0o755)
    assert "of version 9, and older than the server" in fails(world, postgresql.dsn, programs=tmp_path)


def test_a_dump_that_dies_halfway_leaves_nothing(world, postgresql, tmp_path):
    program = tmp_path / "pg_dump"
    program.write_text(
        '#!/bin/sh\nfor word in "$@"; do\n[ "$word" = --format=custom ] || continue\n'
        "head -c 5000000 /dev/urandom; echo cut off >&2; exit 1\ndone\n"
        f'exec {postgresql.programs}/pg_dump "$@"\n'
    )
    program.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert "cut off" in fails(world, postgresql.dsn, databases=["orders"], environ=environ)


def test_a_dry_run_says_what_there_is_and_stores_nothing(world, postgresql):
    report = stored(world, postgresql.dsn, dry_run=True)
    assert report.id is None
    assert world.snapshots() == []
    assert any("database orders:" in fact for fact in report.facts)
    assert report.files.new == 8


def test_a_scratch_server_ends_with_whoever_started_it():
    script = """
import os, sys
from drtool.sources.postgresql.roles import without_roles
from drtool.sources.postgresql.scratch_server import ScratchServer
server = ScratchServer((), os.environ)
print(server.directory, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        directory = Path(os.fsdecode(child.stdout.readline().strip()))
        pid = int((directory / "data/postmaster.pid").read_text().splitlines()[0])
        assert "listen_addresses=" in Path(f"/proc/{pid}/cmdline").read_text()
        child.kill()
    ends_at = time.monotonic() + 20
    while directory.exists() or Path(f"/proc/{pid}").exists():
        assert time.monotonic() < ends_at, "the server outlived a killed process"
        time.sleep(0.1)


def test_an_older_server_than_the_dumps_is_no_place_for_them(postgresql):
    assert programs_of(os.environ, 9).name == "bin"
    with pytest.raises(DrtoolError, match="PostgreSQL 99 or newer"):
        programs_of(os.environ, 99)


@pytest.mark.parametrize(
    ("dsn", "variables"),
    [
        ("", {}),
        ("service=orders", {"PGSERVICE": "orders"}),
        ("host=/run  user='a b' password='it\\'s'", {"PGHOST": "/run", "PGUSER": "a b", "PGPASSWORD": "it's"}),
        (
            "postgresql://u:p%40@h1:1,h2:2/d?sslmode=require",
            {
                "PGHOST": "h1,h2",
                "PGPORT": "1,2",
                "PGUSER": "u",
                "PGPASSWORD": "p@",
                "PGDATABASE": "d",
                "PGSSLMODE": "require",
            },
        ),
        ("postgres://[::1]:5433/", {"PGHOST": "::1", "PGPORT": "5433"}),
        ("postgres://[fe80::1%25eth0],h/", {"PGHOST": "fe80::1%eth0,h"}),
        ("postgres://%2Frun%2Fpg/d", {"PGHOST": "/run/pg", "PGDATABASE": "d"}),
        (
            "postgresql://u:#?[]+%2F%25%23@[::1]/d",
            {"PGHOST": "::1", "PGUSER": "u", "PGPASSWORD": "#?[]+/%#", "PGDATABASE": "d"},
        ),
        (
            "postgresql://h/d?password=a+b#[]%26&ssl=true",
            {"PGHOST": "h", "PGDATABASE": "d", "PGPASSWORD": "a+b#[]&", "PGSSLMODE": "require"},
        ),
        ("postgresql://u@/d?host=/tmp/x&port=5", {"PGUSER": "u", "PGDATABASE": "d", "PGHOST": "/tmp/x", "PGPORT": "5"}),
    ],
)
def test_dsns(dsn, variables):
    assert dsn_environment(dsn) == variables


@pytest.mark.parametrize(
    "dsn",
    [
        "mysql://x/",
        "nonsense",
        "host=a password=top'secret",
        "keepalives=1",
        "host=a password=top secret=1",
        "postgresql://u:top/secret@h/d",
        "postgresql://u:x/y?secret@h/d",
        "postgresql://u:x/y?secret=1@h/d",
        "postgresql://u:sec%ret@h/secret",
    ],
)
def test_an_invalid_dsn_is_refused_and_not_repeated(dsn):
    with pytest.raises(ValueError) as caught:
        PostgresqlSource(dsn)
    assert "secret" not in str(caught.value)


def test_roles_that_are_there_stay_as_they_are_whatever_their_names():
    own = 'CREATE ROLE "a\nb";\nALTER ROLE "a\nb" WITH SUPERUSER;\nCREATE ROLE u;\nALTER ROLE u WITH LOGIN;\n'
    new = "SET x = 1;\n\nCREATE ROLE ux;\nALTER ROLE ux WITH LOGIN;\nGRANT u TO ux;\n"
    assert without_roles(own + new + own, ['"a\nb"', "u"]) == new
    assert without_roles(own, []) == own


def test_names_of_databases_are_quoted():
    assert of_database("a'b\\c") == "dbname='a\\'b\\\\c'"


def test_schemas_are_compared_whatever_the_order_and_the_remarks():
    assert compared_schemas("d", "-- by 15\nSET x = 1;\nA\n\nB\n\\restrict abc\n", "B\nA\n") == []
    assert [row.detail for row in compared_schemas("d", "A\nB", "A\nC")] == ["missing: B", "not recorded: C"]


def test_rows_that_were_not_counted_prove_nothing():
    from drtool.sources.databases import compared_rows

    assert compared_rows(Database(name="d", dump="x", rows=None), {"t": 1})
    assert compared_rows(Database(name="d", dump="x", rows={"t": 1}), {"t": 1}) == []


@pytest.mark.thorough
def test_impatient_servers_do_not_end_a_dump(world, postgresql, tmp_path):
    slow = tmp_path / "pg_dump"
    slow.write_text(f'#!/bin/sh\n[ "$1" = --version ] || sleep 0.3\nexec {postgresql.programs}/pg_dump "$@"\n')
    slow.chmod(0o755)
    postgresql.client.ask("ALTER ROLE postgres SET idle_in_transaction_session_timeout = 100")
    try:
        environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        assert stored(world, postgresql.dsn, databases=["odd/name"], environ=environ).errors == []
    finally:
        postgresql.client.ask("ALTER ROLE postgres RESET idle_in_transaction_session_timeout")


def test_the_inventory_is_text_that_people_can_read(world, postgresql, tmp_path):
    stored(world, postgresql.dsn, databases=["orders"], count_rows=False)
    world.restore(tmp_path / "out")
    document = json.loads((tmp_path / "out/postgresql/inventory.json").read_text())
    assert (document["drtool"], document["databases"][0]["rows"]) == ("postgresql", None)


def test_a_client_that_is_told_a_service(postgresql, tmp_path):
    (tmp_path / "pg_service.conf").write_text(f"[orders]\nhost={postgresql.directory}\nuser=postgres\ndbname=orders\n")
    client = Client("service=orders", {**os.environ, "PGSERVICEFILE": str(tmp_path / "pg_service.conf")})
    assert client.ask("SELECT current_database()") == [["orders"]]
    assert client.ask("SELECT current_database()", "odd/name") == [["odd/name"]]
