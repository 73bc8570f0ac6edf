"""The record of a PostgreSQL server comes from its catalogue: what pg_dump leaves out is named, and fails the backup."""

import os

import pytest
from captured import captured
from postgresql_server import postgresql

from drtool.errors import DrtoolError
from drtool.sources.postgresql import Client, PostgresqlSource, catalogue

__all__ = ["postgresql"]


@pytest.fixture
def odd(postgresql):
    """A database of its own, and a role that may read everything but is no superuser."""
    postgresql.client.ask("CREATE ROLE reader LOGIN IN ROLE pg_read_all_data")
    postgresql.client.ask("CREATE DATABASE odd")
    try:
        yield postgresql
    finally:
        postgresql.client.ask("DROP DATABASE odd WITH (FORCE)")
        postgresql.client.ask("DROP ROLE reader")


def stored(server, *, user="reader", databases=("odd",), environ=os.environ, **more):
    return captured(PostgresqlSource(f"host={server.directory} user={user}", databases=databases, **more), environ)


def after_dump(server, tmp_path, sql):
    """An environment in which pg_dump runs `sql` in the database `odd` when a dump with rows has ended."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "pg_dump").write_text(
        f'#!/bin/sh\n{server.programs}/pg_dump "$@" || exit $?\ncase "$*" in *--format=custom*)\n'
        f"{server.programs}/psql -Xq -h {server.directory} -U postgres -d odd -c '{sql}' >&2;; esac\n"
    )
    (programs / "pg_dump").chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


def test_objects_owners_rights_and_settings_are_recorded(odd):
    client = odd.client
    client.ask("CREATE TABLE t (i int PRIMARY KEY); GRANT SELECT ON t TO reader; CREATE INDEX extra ON t (i)", "odd")
    client.ask("CREATE FUNCTION f(a int, b text) RETURNS int LANGUAGE sql AS 'SELECT 1'", "odd")
    client.ask("ALTER DATABASE odd SET work_mem = '8MB'")
    found = stored(odd)
    assert found.errors == []
    (database,) = found.inventory.databases
    assert {kind: list(names) for kind, names in database.objects.items()} == {
        "CONSTRAINT": ["public.t t_pkey"],
        "FUNCTION": ["public.f(a integer, b text)"],
        "INDEX": ["public.extra", "public.t_pkey"],
        "TABLE": ["public.t"],
    }
    assert "reader=r/postgres" in database.objects["TABLE"]["public.t"]
    assert database.properties["owner"] == "postgres"
    assert database.properties["settings"] == "work_mem=8MB"
    assert "member of pg_read_all_data" in found.inventory.roles["reader"]


def test_what_the_dump_lacks_is_named(odd):
    odd.client.ask(
        "CREATE SUBSCRIPTION feed CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect=false, slot_name=NONE)", "odd"
    )
    try:
        found = stored(odd)
        assert found.errors == ["the dump lacks subscription feed: pg_dump left it out"]
        assert found.inventory.databases[0].missing == tuple(found.errors)
        assert any("subscriptions not dumped" in line for line in found.inventory.warnings)
        assert any("subscriptions not dumped" in line for line in found.warnings)
        assert stored(odd, user="postgres").errors == []
    finally:
        odd.client.ask("DROP SUBSCRIPTION feed", "odd")


def test_a_table_that_cannot_be_read_or_hides_rows_is_named_and_the_others_are_stored(odd):
    client = odd.client
    client.ask(
        "CREATE TABLE good AS SELECT 1 i; CREATE TABLE veiled AS SELECT 1 i; CREATE TABLE closed (i serial)", "odd"
    )
    client.ask("CREATE ROLE narrow LOGIN; GRANT SELECT ON good, veiled TO narrow", "odd")
    client.ask("ALTER TABLE veiled ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON veiled USING (i > 1)", "odd")
    try:
        found = stored(odd, user="narrow")
        assert len(found.errors) == 3
        assert "public.closed is left out: this user may not read it" in found.errors[0]
        assert "public.closed_i_seq is left out" in found.errors[1]
        assert "the rows of public.veiled are left out: row security" in found.errors[2]
        assert found.inventory.databases[0].rows == {"public.good": 1, "public.veiled": None}
    finally:
        client.ask("DROP OWNED BY narrow; DROP ROLE narrow", "odd")


@pytest.mark.thorough
def test_large_objects_that_cannot_be_read_are_named_and_the_tables_are_stored(odd):
    odd.client.ask("CREATE TABLE t AS SELECT 1 i; SELECT lo_from_bytea(1, 'x'), lo_from_bytea(2, 'y')", "odd")
    odd.client.ask("GRANT SELECT ON LARGE OBJECT 1 TO reader", "odd")
    found = stored(odd)
    (error,) = found.errors
    assert error.startswith("all large objects are left out: this user may not read 1 of them")
    assert found.inventory.databases[0].rows == {"public.t": 1}
    odd.client.ask("GRANT SELECT ON LARGE OBJECT 2 TO reader", "odd")
    assert stored(odd).errors == []
    odd.client.ask("SELECT lo_unlink(1), lo_unlink(2)", "odd")


def test_a_table_that_stays_locked_is_named_and_the_others_are_stored(odd):
    odd.client.ask("CREATE TABLE good AS SELECT 1 i; CREATE TABLE busy AS SELECT 1 i", "odd")
    with odd.client.session("odd") as session:
        session.ask("BEGIN")
        session.ask("LOCK TABLE busy")
        found = stored(odd, lock_timeout_s=1)
    assert found.errors == ["public.busy is left out: it stayed locked for 1 s"]
    assert found.inventory.databases[0].rows == {"public.good": 1}


@pytest.mark.parametrize("sql", ["TRUNCATE t", "DROP TABLE t"])
@pytest.mark.thorough
def test_a_count_of_a_table_that_changed_after_its_dump_is_not_recorded(odd, tmp_path, sql):
    odd.client.ask("CREATE TABLE t AS SELECT 1 i; CREATE TABLE other AS SELECT 2 i", "odd")
    found = stored(odd, environ=after_dump(odd, tmp_path, sql))
    assert found.errors == []
    assert found.inventory.databases[0].rows == {"public.other": 1, "public.t": None}
    assert found.inventory.databases[0].unsteady == ("public.t",)


@pytest.mark.thorough
def test_a_table_that_is_dropped_just_before_its_dump_costs_another_attempt(odd, tmp_path):
    odd.client.ask("CREATE TABLE t AS SELECT 1 i; CREATE TABLE other AS SELECT 2 i", "odd")
    program = tmp_path / "pg_dump"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--schema-only*) {odd.programs}/psql -Xq -h {odd.directory} -U postgres -d odd '
        f"-c 'DROP TABLE IF EXISTS t' >&2 2>/dev/null;; esac\nexec {odd.programs}/pg_dump \"$@\"\n"
    )
    program.chmod(0o755)
    found = stored(odd, environ={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert found.errors == []
    assert found.inventory.databases[0].rows == {"public.other": 1}


def test_databases_that_this_user_may_not_enter_are_named_and_templates_are_stored(odd):
    client = odd.client
    client.ask("CREATE DATABASE rdsadmin")
    client.ask("ALTER DATABASE odd IS_TEMPLATE true")
    client.ask("REVOKE CONNECT ON DATABASE rdsadmin, orders FROM PUBLIC")
    try:
        found = stored(odd, databases=())
        assert len(found.errors) == 1
        assert 'GRANT CONNECT ON DATABASE "orders"' in found.errors[0]
        assert [row.name for row in found.inventory.databases] == ["odd", "odd/name", "postgres"]
        assert any("rdsadmin is the provider's own" in line for line in found.warnings)
    finally:
        client.ask("GRANT CONNECT ON DATABASE orders TO PUBLIC")
        client.ask("ALTER DATABASE odd IS_TEMPLATE false")
        client.ask("DROP DATABASE rdsadmin")


def test_one_database_that_cannot_be_dumped_does_not_keep_the_others_from_being_stored(odd, tmp_path):
    program = tmp_path / "pg_dump"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *odd/name*--format=custom*) head -c 3000000 /dev/urandom; echo cut off >&2; exit 1;; esac\n'
        f'exec {odd.programs}/pg_dump "$@"\n'
    )
    program.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = stored(odd, user="postgres", databases=("odd/name", "odd"), environ=environ)
    assert len(found.errors) == 1
    assert "cut off" in found.errors[0]
    assert [row.name for row in found.inventory.databases] == ["odd"]
    assert found.inventory.missing[0].startswith("odd/name: ")


@pytest.mark.thorough
def test_a_database_that_is_dropped_meanwhile_is_no_fault(odd, monkeypatch):
    odd.client.ask("CREATE DATABASE brief")
    source = PostgresqlSource(f"host={odd.directory} user=postgres")
    looked = source._looked

    def dropped_after(around):
        found = looked(around)
        odd.client.ask("DROP DATABASE brief")
        return found

    monkeypatch.setattr(source, "_looked", dropped_after)
    found = captured(source)
    assert found.errors == []
    assert any("brief was dropped during the backup" in line for line in found.warnings)


def test_bytes_without_an_encoding_are_stored_and_restored_as_they_are(odd, tmp_path):
    client = odd.client
    client.ask("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        sql = "SET client_encoding = SQL_ASCII; CREATE TABLE \"\udce4\" AS SELECT '\udce4\udcff'::text t"
        with client.session("bytes") as session:
            session.ask(sql)
        found = stored(odd, user="postgres", databases=("bytes",))
        assert found.errors == []
        assert found.inventory.databases[0].rows == {'public."\\xe4"': 1}
    finally:
        client.ask("DROP DATABASE bytes")


def test_a_server_without_a_database_postgres_is_entered_by_another(postgresql):
    client = Client(f"host={postgresql.directory} user=postgres", os.environ)
    client.ask("ALTER DATABASE postgres RENAME TO elsewhere", "template1")
    try:
        assert Client(f"host={postgresql.directory} user=postgres", os.environ).entrance() == "template1"
        with pytest.raises(DrtoolError, match="role"):
            Client(f"host={postgresql.directory} user=nobody_known", os.environ).entrance()
    finally:
        client.ask("ALTER DATABASE elsewhere RENAME TO postgres", "template1")


def test_names_in_a_dump_are_found_whatever_stands_in_them():
    schema = (
        "-- Name: a b; Type: TABLE; Schema: s; Owner: x\n--\n-- Name: f(integer); Type: FUNCTION; Schema: s; Owner: x\n"
    )
    record = {"TABLE": {"s.a\nb": "", "s.c": ""}, "FUNCTION": {"s.f(a integer)": "", "s.f(text)": ""}}
    lost = catalogue.lacking(record, schema)
    assert [line.partition(":")[0] for line in lost] == [
        "the dump lacks table s.c",
        "the dump lacks function s.f(text)",
    ]


def test_an_index_that_was_never_finished_is_warned_of(postgresql):
    client = postgresql.client
    client.ask("CREATE DATABASE broken")
    try:
        client.ask(
            "CREATE TABLE t AS SELECT 1 i FROM generate_series(1, 2); CREATE TABLE u (i int PRIMARY KEY)", "broken"
        )
        with pytest.raises(DrtoolError, match="could not create unique index"):
            client.ask("CREATE UNIQUE INDEX CONCURRENTLY half ON t (i)", "broken")
        found = captured(PostgresqlSource(f"host={postgresql.directory} user=postgres", databases=("broken",)))
        assert found.errors == []
        assert any(
            "broken: the index public.half was never finished and is left out" in line for line in found.warnings
        )
        assert list(found.inventory.databases[0].objects["INDEX"]) == ["public.u_pkey"]
    finally:
        client.ask("DROP DATABASE broken")
