"""A PostgreSQL database comes back into servers as they are: other superusers, none at all, settings that get in the way."""

import os

import pytest
from captured import captured
from msgspec.structs import replace
from postgresql_server import postgresql

from drtool.errors import DrtoolError, Refused
from drtool.sources.databases import nobody_watches
from drtool.sources.postgresql import PostgresqlSource
from drtool.sources.postgresql.catalogue import MARK
from drtool.sources.postgresql.engine import ENGINE
from drtool.sources.postgresql.loading import problems_of, properties_of
from drtool.sources.postgresql.roles import grantable, modest
from drtool.sources.postgresql.scratch_server import ScratchServer
from drtool.sources.postgresql.unfinished import Locks

__all__ = ["postgresql"]


@pytest.fixture(scope="module")
def other():
    server = ScratchServer((), os.environ)
    try:
        yield server
    finally:
        assert server.stop() == []


@pytest.fixture
def source(postgresql, other):
    """The client of a server with a database `odd`, which is dropped on both servers afterwards."""
    postgresql.client.ask("CREATE DATABASE odd")
    try:
        yield postgresql.client
    finally:
        postgresql.client.ask("DROP DATABASE odd WITH (FORCE)")
        other.client.ask("DROP DATABASE IF EXISTS odd WITH (FORCE)")


@pytest.fixture
def dump(postgresql, tmp_path):
    """Store the database `odd`, and return (inventory, files)."""

    def stored():
        found = captured(PostgresqlSource(f"host={postgresql.directory} user=postgres", databases=("odd",)))
        assert found.errors == []
        return found.inventory, found.put(tmp_path / "files")

    return stored


def restored(server, dump, *, user="postgres", more=""):
    """(everything that is not as recorded, warnings) of a restore by a user."""
    inventory, files = dump
    target = ENGINE.connect(f"host={server.directory} user={user} {more}", os.environ, nobody_watches)
    warned = []
    try:
        target.check(inventory.databases)
        chosen = target.put_back(inventory, files, (), warned.append)
        found = target.differences(chosen, files, ("rowcount", "schema"))
    finally:
        assert target.stop() == []
    return [f"{row.where}: {row.detail}" for row in (*target.problems, *found)], warned


def test_owner_rights_settings_and_comment_also_into_an_empty_database_that_is_there(source, other, dump):
    source.ask("CREATE ROLE app LOGIN")
    source.ask("ALTER DATABASE odd OWNER TO app; COMMENT ON DATABASE odd IS E'two\\nlines; it''s'")
    source.ask(
        "ALTER DATABASE odd SET search_path TO shop, public; ALTER ROLE app IN DATABASE odd SET statement_timeout TO '5s'"
    )
    source.ask("REVOKE CONNECT ON DATABASE odd FROM PUBLIC; ALTER DATABASE odd CONNECTION LIMIT 7")
    source.ask("CREATE TABLE t AS SELECT 1 i", "odd")
    other.client.ask("CREATE DATABASE odd")
    rights = "SELECT datacl, datconnlimit FROM pg_database WHERE datname = 'odd'"
    try:
        assert restored(other, dump()) == ([], [])
        assert other.client.ask(rights) == source.ask(rights)
        with other.client.session("odd") as session:
            assert session.ask(f"SELECT 1 FROM pg_namespace WHERE nspname = '{MARK}'") == []
        other.client.ask("ALTER DATABASE odd RESET search_path")
        target = ENGINE.connect(f"host={other.directory} user=postgres", os.environ, nobody_watches)
        inventory, files = dump()
        found = target.differences(inventory.databases, files, ("schema",))
        assert any("its settings" in row.detail for row in found)
    finally:
        source.ask("ALTER DATABASE odd OWNER TO postgres; DROP OWNED BY app; DROP ROLE app")
        other.client.ask("DROP DATABASE odd")
        other.client.ask("DROP ROLE app")


@pytest.mark.thorough
def test_a_user_without_a_superuser_restores_owners_too_and_keeps_no_membership(source, other, dump):
    source.ask("CREATE ROLE app LOGIN; CREATE ROLE boss SUPERUSER REPLICATION")
    source.ask("ALTER DATABASE odd OWNER TO app")
    source.ask("CREATE TABLE t AS SELECT 1 i; ALTER TABLE t OWNER TO app", "odd")
    other.client.ask("CREATE ROLE hosted LOGIN CREATEDB CREATEROLE")
    try:
        found, _ = restored(other, dump(), user="hosted")
        assert found == [f"roles: the role boss is restored without {word}" for word in ("SUPERUSER", "REPLICATION")]
        owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 't'"
        assert other.client.ask(owner, "odd") == [["app"]]
        assert other.client.ask("SELECT pg_has_role('hosted', 'app', 'MEMBER')") == [["f"]]
    finally:
        source.ask("DROP ROLE boss; ALTER DATABASE odd OWNER TO postgres")
        source.ask("DROP OWNED BY app; DROP ROLE app", "odd")
        other.client.ask("DROP DATABASE IF EXISTS odd")
        other.client.ask("DROP ROLE IF EXISTS hosted, app, boss")


@pytest.mark.thorough
def test_a_user_who_may_give_nothing_away_keeps_what_it_restores_and_says_so(source, other, dump):
    source.ask("CREATE TABLE t AS SELECT 1 i", "odd")
    other.client.ask("CREATE ROLE plain LOGIN CREATEDB")
    try:
        found, _ = restored(other, dump(), user="plain")
        assert "odd: what belonged to postgres belongs to the restoring user, who may not give it away" in found
        assert other.client.ask("SELECT count(*) FROM t", "odd") == [["1"]]
        again, warned = restored(other, dump(), user="plain")
        assert again == found
        assert any("left unfinished by a restore, and is begun again" in line for line in warned)
    finally:
        other.client.ask("DROP DATABASE IF EXISTS odd")
        other.client.ask("DROP ROLE plain")


@pytest.mark.thorough
def test_settings_of_a_database_do_not_get_in_the_way(source, other, dump):
    source.ask("CREATE TABLE t AS SELECT 1 i", "odd")
    source.ask("ALTER DATABASE odd SET default_transaction_read_only = on")
    assert restored(other, dump()) == ([], [])


def test_limits_for_applications_do_not_hold_for_a_backup_or_restore(source):
    for limit in ("statement_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"):
        source.ask(f"ALTER DATABASE odd SET {limit} = '10s'")
        with source.session("odd") as session:
            assert session.ask(f"SHOW {limit}") == [["0"]]


@pytest.mark.thorough
def test_what_needs_a_search_path_is_loaded_with_that_of_the_database(source, other, dump):
    source.ask(
        "CREATE TABLE t AS SELECT 1 i; CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t'",
        "odd",
    )
    source.ask("CREATE MATERIALIZED VIEW m AS SELECT f()", "odd")
    assert restored(other, dump()) == ([], [])
    assert other.client.ask("SELECT * FROM m", "odd") == [["1"]]


@pytest.mark.thorough
def test_one_object_that_fails_is_named_without_its_rows_and_a_second_try_works(source, other, dump):
    source.ask("CREATE TABLE good AS SELECT 1 i; CREATE TABLE bad (secret text)", "odd")
    source.ask("CREATE FUNCTION refuses(t text) RETURNS boolean LANGUAGE sql AS 'SELECT true'", "odd")
    source.ask("ALTER TABLE bad ADD CHECK (refuses(secret)); INSERT INTO bad VALUES ('a secret')", "odd")
    source.ask("CREATE OR REPLACE FUNCTION refuses(t text) RETURNS boolean LANGUAGE sql AS 'SELECT false'", "odd")
    taken = dump()
    found, _ = restored(other, taken)
    assert (
        found[0]
        == 'odd: TABLE DATA bad postgres: new row for relation "bad" violates check constraint "bad_secret_check"'
    )
    assert not any("a secret" in line for line in found)
    assert other.client.ask("SELECT count(*) FROM good", "odd") == [["1"]]
    again, warned = restored(other, taken)
    assert again == found
    assert warned == ["odd was left unfinished by a restore, and is begun again"]
    for change, undo in (
        ("UPDATE good SET i = 2", "UPDATE good SET i = 1"),
        ("SELECT lo_from_bytea(777, 'theirs')", "SELECT lo_unlink(777)"),
        ("CREATE FUNCTION theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION theirs()"),
    ):
        other.client.ask(change, "odd")
        with pytest.raises(Refused, match="has been changed since"):
            restored(other, taken)
        other.client.ask(undo, "odd")


def test_an_interrupted_restore_is_begun_again_unless_somebody_added_something(source, other, dump):
    source.ask("CREATE TABLE good AS SELECT generate_series(1, 3) i; CREATE TABLE more (i int)", "odd")
    taken = dump()
    assert restored(other, taken)[0] == []
    other.client.ask(f"DROP TABLE more; CREATE SCHEMA {MARK}", "odd")
    for change, undo, told in (
        (
            "INSERT INTO good VALUES (4)",
            "DELETE FROM good WHERE i = 4",
            "4 rows in public.good, of which 3 were recorded",
        ),
        ("CREATE TABLE theirs ()", "DROP TABLE theirs", "the table public.theirs"),
        ("SELECT lo_from_bytea(777, 'theirs')", "SELECT lo_unlink(777)", "1 large objects, of which 0 were recorded"),
        ("UPDATE good SET i = 5 WHERE i = 1", "UPDATE good SET i = i", "rows in public.good that were written later"),
    ):
        other.client.ask(change, "odd")
        with pytest.raises(Refused, match=told):
            restored(other, taken)
        other.client.ask(undo, "odd")
    again, warned = restored(other, taken, more="dbname=odd")
    assert (again, warned) == ([], ["odd was left unfinished by a restore, and is begun again"])
    assert other.client.ask("SELECT count(*) FROM good WHERE i = 1", "odd") == [["1"]]


@pytest.mark.thorough
def test_a_user_who_may_make_no_database_begins_again_inside_of_it(source, other, dump):
    source.ask("CREATE SCHEMA shop; CREATE TABLE shop.good AS SELECT generate_series(1, 3) i", "odd")
    other.client.ask("CREATE ROLE plain LOGIN")
    other.client.ask("CREATE DATABASE odd OWNER plain")
    taken = dump()
    try:
        found, _ = restored(other, taken, user="plain")
        assert all("may not" in line or "roles" in line or "must be owner" in line for line in found), found
        again, warned = restored(other, taken, user="plain")
        assert sorted(again) == sorted(found)
        assert warned == ["odd was left unfinished by a restore, and is begun again"]
        assert other.client.ask("SELECT count(*) FROM shop.good", "odd") == [["3"]]
    finally:
        other.client.ask("DROP DATABASE odd")
        other.client.ask("DROP ROLE plain")


def test_a_dsn_may_name_the_database_that_is_to_be_restored(source, other, dump):
    assert restored(other, dump(), more="dbname=odd")[0] == []


def test_a_database_that_was_left_unfinished_is_stored_without_its_mark(source, other, postgresql, tmp_path):
    source.ask(f"CREATE TABLE t (); CREATE SCHEMA {MARK}", "odd")
    found = captured(PostgresqlSource(f"host={postgresql.directory} user=postgres", databases=("odd",)))
    assert found.errors == []
    assert any("a restore left it unfinished" in line for line in found.warnings)
    assert restored(other, (found.inventory, found.put(tmp_path / "files"))) == ([], [])


def test_two_restores_do_not_work_on_one_database(source, other, dump, monkeypatch):
    monkeypatch.setattr("drtool.sources.postgresql.unfinished._END_S", 0)
    taken = dump()
    locks = Locks(other.client)
    locks.take(["odd"])
    with pytest.raises(Refused, match="another restore of the database odd"):
        restored(other, taken)
    locks.release()
    assert restored(other, taken)[0] == []


@pytest.mark.thorough
def test_a_fault_belongs_to_its_database_and_a_second_try_leaves_the_good_one_alone(
    source, other, postgresql, tmp_path
):
    source.ask("CREATE DATABASE fine")
    source.ask("CREATE TABLE t AS SELECT 1 i", "fine")
    try:
        found = captured(PostgresqlSource(f"host={postgresql.directory} user=postgres", databases=("fine", "odd")))
        files = found.put(tmp_path / "files")
        dump = files / "postgresql/odd/dump.pgc"
        whole = dump.read_bytes()
        dump.write_bytes(b"rotten")
        problems, _ = restored(other, (found.inventory, files))
        assert [line.split(":")[0] for line in problems] == ["odd"]
        marked = f"SELECT count(*) FROM pg_namespace WHERE nspname = '{MARK}'"
        assert other.client.ask(marked, "fine") == [["0"]]
        other.client.ask("CREATE DATABASE odd")
        other.client.ask(f"CREATE SCHEMA {MARK}", "odd")
        dump.write_bytes(whole)
        problems, warned = restored(other, (found.inventory, files))
        assert problems == []
        assert "the database fine is there: it is left alone, and compared" in warned
        with pytest.raises(Refused, match="has a database"):
            restored(other, (found.inventory, files))
    finally:
        for client in (source, other.client):
            client.ask("DROP DATABASE IF EXISTS fine")


def test_what_a_function_raises_at_a_row_is_not_repeated(source, other, dump):
    raises = "CREATE FUNCTION refuses(t text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN {}; RETURN true; END$$"
    source.ask("CREATE TABLE bad (secret text)", "odd")
    source.ask(raises.format("NULL"), "odd")
    source.ask("ALTER TABLE bad ADD CHECK (refuses(secret)); INSERT INTO bad VALUES ('hidden')", "odd")
    body = raises.replace("CREATE", "CREATE OR REPLACE").format("RAISE EXCEPTION 'bad is %', t")
    source.ask(body, "odd")
    found, _ = restored(other, dump())
    told = "a function of the database refused it: PL/pgSQL function public.refuses(text) line 1 at RAISE"
    assert found[0] == f"odd: TABLE DATA bad postgres: {told}"
    assert not any("hidden" in line for line in found)


@pytest.mark.thorough
def test_one_database_that_fails_does_not_keep_the_others_from_coming_back(source, other, postgresql, tmp_path):
    found = captured(PostgresqlSource(f"host={postgresql.directory} user=postgres", databases=("odd/name", "odd")))
    files = found.put(tmp_path / "files")
    (files / "postgresql/odd%2Fname/dump.pgc").write_bytes(b"rotten")
    try:
        problems, _ = restored(other, (found.inventory, files))
        assert len(problems) == 1
        assert problems[0].startswith("odd/name: it could not be restored")
        assert other.client.ask("SELECT 1", "odd") == [["1"]]
        (files / "postgresql/odd/dump.pgc").write_bytes(b"rotten")
        with pytest.raises(DrtoolError, match="could not be restored"):
            restored(other, (found.inventory, files))
    finally:
        other.client.ask('DROP DATABASE IF EXISTS "odd/name"')


@pytest.mark.thorough
def test_owners_of_odd_names_keep_what_they_have(source, other, dump):
    source.ask('CREATE ROLE " Ops ""Team"; ALTER DATABASE odd OWNER TO " Ops ""Team"')
    source.ask('CREATE TABLE t (); ALTER TABLE t OWNER TO " Ops ""Team"', "odd")
    other.client.ask("CREATE ROLE hosted LOGIN CREATEDB CREATEROLE")
    try:
        assert restored(other, dump(), user="hosted") == ([], [])
        owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 't'"
        assert other.client.ask(owner, "odd") == [[' Ops "Team']]
    finally:
        source.ask("ALTER DATABASE odd OWNER TO postgres")
        source.ask('DROP OWNED BY " Ops ""Team"; DROP ROLE " Ops ""Team"', "odd")
        other.client.ask("DROP DATABASE IF EXISTS odd")
        other.client.ask('DROP ROLE hosted, " Ops ""Team"')


@pytest.mark.thorough
def test_a_database_whose_name_no_script_can_hold_keeps_its_owner(source, other, postgresql, tmp_path):
    source.ask("CREATE ROLE app")
    source.ask('CREATE DATABASE "new\nline" OWNER app')
    try:
        found = captured(PostgresqlSource(f"host={postgresql.directory} user=postgres", databases=("new\nline",)))
        assert restored(other, (found.inventory, found.put(tmp_path / "files"))) == ([], [])
    finally:
        for client in (source, other.client):
            client.ask('DROP DATABASE IF EXISTS "new\nline"')
            client.ask("DROP ROLE IF EXISTS app")


@pytest.mark.thorough
def test_a_role_that_did_not_come_back_is_named(source, other, dump):
    source.ask("CREATE ROLE lost")
    try:
        inventory, files = dump()
        path = files / "postgresql/globals.sql"
        path.write_text("\n".join(line for line in path.read_text().splitlines() if "lost" not in line))
        found, _ = restored(other, (inventory, files))
        assert found == ["roles: the role lost is not there"]
    finally:
        source.ask("DROP ROLE lost")


@pytest.mark.thorough
def test_definitions_of_another_major_version_are_compared_by_their_names(source, other, dump):
    source.ask("CREATE TABLE t AS SELECT 1 i; CREATE TABLE u AS SELECT 1 i", "odd")
    inventory, files = dump()
    path = files / "postgresql/odd/schema.sql"
    path.write_text(path.read_text() + "SOMETHING THAT ONLY THE OTHER VERSION SAYS;\n")
    assert len(restored(other, (inventory, files))[0]) == 1
    assert restored(other, (replace(inventory, server_version="9.6.1"), files))[0] == []


@pytest.mark.thorough
def test_a_tablespace_that_is_not_there_is_warned_of(source, other, postgresql, dump):
    place = postgresql.directory / "space"
    place.mkdir(mode=0o700)
    if os.geteuid() == 0:
        import shutil

        shutil.chown(place, "postgres")
    source.ask(f"CREATE TABLESPACE fast LOCATION '{place}'")
    try:
        source.ask("CREATE TABLE t (i int) TABLESPACE fast", "odd")
        taken = dump()
        taken[1].joinpath("postgresql/globals.sql").write_text(
            taken[1].joinpath("postgresql/globals.sql").read_text().replace(str(place), "/nonexistent/fast")
        )
        found, warned = restored(other, taken)
        assert found == []
        assert "the tablespace fast is not there: everything goes into the default tablespace" in warned
    finally:
        source.ask("DROP TABLE t", "odd")
        source.ask("DROP TABLESPACE fast")


@pytest.mark.thorough
def test_a_superuser_of_another_name_needs_no_database_of_its_own(source, other, dump):
    other.client.ask("CREATE ROLE dba LOGIN SUPERUSER")
    try:
        assert restored(other, dump(), user="dba") == ([], [])
    finally:
        other.client.ask("DROP DATABASE odd")
        other.client.ask("DROP ROLE dba")


@pytest.mark.thorough
def test_bytes_without_an_encoding_come_back(source, other, postgresql, tmp_path):
    source.ask("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        with source.session("bytes") as session:
            session.ask("SET client_encoding = SQL_ASCII")
            session.ask("CREATE TABLE t AS SELECT '\udce4\udcff'::text x")
        found = captured(PostgresqlSource(f"host={postgresql.directory} user=postgres", databases=("bytes",)))
        assert restored(other, (found.inventory, found.put(tmp_path / "files"))) == ([], [])
        assert other.client.ask("SELECT encode(x::bytea, 'hex') FROM t", "bytes") == [["e4ff"]]
    finally:
        source.ask("DROP DATABASE bytes")
        other.client.ask("DROP DATABASE IF EXISTS bytes")


def test_messages_hold_no_values():
    stderr = (
        "pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 12; 0 16390 TABLE DATA shop p app\n"
        'pg_restore: error: COPY failed for table "p": ERROR:  invalid input syntax for type integer: "a secret"\n'
        'CONTEXT:  COPY p, line 1, column i: "a secret"\npg_restore: creating TABLE x\n'
        'pg_restore: error: could not execute query: ERROR:  role "x" does not exist\nCommand was: ALTER TABLE t OWNER TO x;\n'
        'pg_restore: error: COPY failed for table "p": ERROR:  value "a secret" is out of range for type integer\n'
        'pg_restore: error: COPY failed for table "p": ERROR:  invalid byte sequence for encoding "UTF8": 0xe4\n'
        'pg_restore: error: COPY failed for table "p": ERROR:  role "a secret" does not exist\n'
        'CONTEXT:  PL/pgSQL function public.f(text) line 3 at RAISE\nCOPY p, line 1: "a secret"\n'
        'pg_restore: error: COPY failed for table "p": ERROR:  plpy.Error: a secret\n'
        'pg_restore: error: COPY failed for table "p": ERROR:  relation "q" does not exist\n'
        "CONTEXT:  PL/pgSQL function public.f(text) line 3 at SQL statement\n"
    )
    assert [row.message for row in problems_of(stderr)] == [
        'invalid input syntax for type integer: "…"',
        'role "x" does not exist',
        'value "…"',
        'invalid byte sequence for encoding "…"',
        "a function of the database refused it: PL/pgSQL function public.f(text) line 3 at RAISE",
        "plpy.Error: …",
        'relation "q" does not exist',
    ]


def test_properties_are_told_apart_whatever_stands_in_them():
    owner = 'ALTER DATABASE "d;\n" OWNER TO o;'
    comment = "COMMENT ON DATABASE d IS 'a;\nb';"
    text = (
        "SET x = 1;\n\n--\n-- Name: d; Type: DATABASE; Schema: -; Owner: o\n--\n\n"
        f'CREATE DATABASE "d;\n" WITH TEMPLATE = template0 TABLESPACE = "my space";\n\n\n{owner}\n\n\\connect d\n\n'
        f"--\n-- Name: DATABASE d; Type: COMMENT; Schema: -; Owner: o\n--\n\n{comment}\n\n\n\\connect d\n"
    )
    found = properties_of(text, without_tablespace=True, without_owner=False)
    assert found.create == 'CREATE DATABASE "d;\n" WITH TEMPLATE = template0;\n'
    assert found.rest.split() == f"{owner} {comment}".split()


def test_roles_without_a_superuser_lose_only_what_they_may_not_have():
    text = "CREATE ROLE a;\nALTER ROLE a WITH NOSUPERUSER INHERIT LOGIN NOREPLICATION BYPASSRLS PASSWORD 'x NOSUPERUSER';\n"
    plain, left = modest(f"{text}GRANT a TO b WITH ADMIN OPTION GRANTED BY postgres;\n")
    assert plain == (
        "CREATE ROLE a;\nALTER ROLE a WITH INHERIT LOGIN PASSWORD 'x NOSUPERUSER';\nGRANT a TO b WITH ADMIN OPTION;\n"
    )
    assert left == ["the role a is restored without BYPASSRLS"]
    assert grantable("GRANT a TO b GRANTED BY gone;\nGRANT a TO c GRANTED BY d;\n", ["d"]) == (
        "GRANT a TO b;\nGRANT a TO c GRANTED BY d;\n"
    )
