"""The record of a MariaDB server comes from its catalogue: what the dump leaves out, or the server hides, fails the backup."""

import os
import threading

import pytest
from captured import captured
from mariadb_server import empty_mariadb

from drtool.sources.mysql import MysqlSource
from drtool.sources.mysql.catalogue import Rights, lacking
from drtool.sources.mysql.client import Client
from drtool.sources.mysql.session import Failure, connected

__all__ = ["empty_mariadb"]
BACKUP = "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* TO backup@localhost"


@pytest.fixture
def shop(empty_mariadb):
    """A database of its own."""
    client = Client(empty_mariadb.url, os.environ)
    client.ask("CREATE DATABASE shop; CREATE TABLE shop.t (i INT PRIMARY KEY); INSERT INTO shop.t VALUES (1), (2)")
    try:
        yield client
    finally:
        client.ask("DROP DATABASE shop; DROP USER IF EXISTS backup@localhost")


def stored(server, *, user="root", databases=("shop",), environ=os.environ, **more):
    return captured(MysqlSource(server.url.replace("root@", f"{user}@"), databases=databases, **more), environ)


def programs(tmp_path, when, script):
    """An environment whose mariadb-dump runs a script after it was called with the word `when`."""
    program = tmp_path / "mariadb-dump"
    program.write_text(f'#!/bin/sh\n/usr/bin/mariadb-dump "$@" || exit $?\ncase "$*" in *{when}*) {script};; esac\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_a_scratch_server_has_a_temporary_directory_of_its_own(empty_mariadb):
    """When it starts it deletes the temporary tables there, which may be those of the host's real server."""
    ((tmpdir,),) = Client(empty_mariadb.url, os.environ).ask("SELECT @@tmpdir")
    assert tmpdir in empty_mariadb.url


def test_objects_and_the_rows_of_history_are_recorded_with_exactly_these_rights(empty_mariadb, shop):
    shop.ask(
        "USE shop; CREATE TABLE prices (i INT PRIMARY KEY, p INT) WITH SYSTEM VERSIONING; INSERT INTO prices VALUES (1, 10);"
        "UPDATE prices SET p = 11; CREATE VIEW v AS SELECT 1 one; CREATE PROCEDURE p() SELECT 1; CREATE SEQUENCE s;"
        "CREATE TRIGGER `odd name` BEFORE INSERT ON t FOR EACH ROW SET NEW.i = 1;"
        "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1;"
        f"CREATE USER backup@localhost; {BACKUP}"
    )
    found = stored(empty_mariadb, user="backup")
    assert found.errors == []
    (database,) = found.inventory.databases
    assert {kind: list(names) for kind, names in database.objects.items()} == {
        "EVENT": ["e"],
        "PROCEDURE": ["p"],
        "SEQUENCE": ["s"],
        "TABLE": ["prices", "t"],
        "TRIGGER": ["odd name"],
        "VIEW": ["v"],
    }
    assert (database.rows, database.history) == ({"prices": 1, "t": 2}, {"prices": 2})
    assert found.files["/mysql/shop/dump.sql"].count(b"(1,10,") == 1
    assert "'backup'@'localhost'" in found.inventory.roles


def test_what_may_be_hidden_from_the_user_is_named(empty_mariadb, shop):
    shop.ask("CREATE TRIGGER shop.tr BEFORE INSERT ON shop.t FOR EACH ROW SET NEW.i = 1; CREATE USER backup@localhost")
    shop.ask("GRANT SELECT, SHOW VIEW, EVENT ON *.* TO backup@localhost")
    found = stored(empty_mariadb, user="backup")
    (error,) = found.errors
    assert error == "triggers of shop may be hidden from this user: GRANT TRIGGER ON `shop`.* TO `backup`@`localhost`"
    assert found.inventory.databases[0].missing == (error,)
    shop.ask("REVOKE ALL ON *.* FROM backup@localhost; GRANT SELECT ON shop.t TO backup@localhost")
    found = stored(empty_mariadb, user="backup")
    hidden = [error.split(" of ")[0] for error in found.errors]
    assert hidden == ["tables and rows", "views", "triggers", "events", "routines"]


def test_users_that_cannot_be_read_are_missing_from_a_whole_server(empty_mariadb, shop):
    shop.ask("CREATE USER backup@localhost; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON shop.* TO backup@localhost")
    shop.ask("GRANT SELECT ON mysql.proc TO backup@localhost")
    found = stored(empty_mariadb, user="backup", databases=())
    assert [error.partition(":")[0] for error in found.errors] == ["users and their rights are left out"]
    found = stored(empty_mariadb, user="backup")
    assert found.errors == []
    assert any("users and their rights are left out" in line for line in found.warnings)


def test_one_broken_object_is_named_and_the_others_are_stored(empty_mariadb, shop):
    shop.ask("USE shop; CREATE TABLE gone (i INT); CREATE VIEW broken AS SELECT * FROM gone; DROP TABLE gone")
    found = stored(empty_mariadb)
    (error,) = found.errors
    assert error.startswith("broken is left out: ERROR 1356")
    assert found.inventory.databases[0].rows == {"t": 2}
    assert b"CREATE TABLE `t`" in found.files["/mysql/shop/dump.sql"]


def test_a_table_that_stays_locked_is_named_and_the_others_are_stored(empty_mariadb, shop):
    shop.ask("CREATE TABLE shop.other SELECT 1 i")
    with connected(shop) as session:
        session.ask("LOCK TABLES shop.t WRITE")
        found = stored(empty_mariadb, lock_timeout_s=1)
    assert found.errors == ["t is left out: it stayed locked for 1 s"]
    assert found.inventory.databases[0].rows == {"other": 1}


def test_a_lock_that_comes_during_the_dump_ends_it(empty_mariadb, shop, tmp_path):
    """The program waits until the test holds the lock, as a dump that has other tables before it does."""
    here, held = tmp_path / "here", tmp_path / "held"
    wait = f"touch {here}; until [ -e {held} ]; do sleep 0.05; done"
    program = tmp_path / "mariadb-dump"
    program.write_text(f'#!/bin/sh\ncase "$*" in *--hex-blob*shop*) {wait};; esac\nexec /usr/bin/mariadb-dump "$@"\n')
    program.chmod(0o755)
    over = threading.Event()

    def lock():
        with connected(shop) as session:
            while not here.exists() and not over.wait(0.05):
                pass
            session.ask("LOCK TABLES shop.t WRITE")
            held.touch()
            over.wait()

    shop.ask("CREATE DATABASE other; CREATE TABLE other.t SELECT 1 i")
    thread = threading.Thread(target=lock)
    thread.start()
    try:
        environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        found = stored(empty_mariadb, environ=environ, lock_timeout_s=1, databases=("shop", "other"))
    finally:
        over.set()
        thread.join()
        shop.ask("DROP DATABASE other")
    assert found.errors == ["a table stayed locked for 1 s"]
    assert [row.name for row in found.inventory.databases] == ["other"]


def test_a_writer_who_never_rests_delays_nothing(empty_mariadb, shop):
    with connected(shop) as session:
        session.ask("BEGIN")
        session.ask("UPDATE shop.t SET i = 3 WHERE i = 2")
        assert stored(empty_mariadb, lock_timeout_s=5).errors == []


def test_a_table_that_is_dropped_after_its_dump_is_not_compared(empty_mariadb, shop, tmp_path):
    shop.ask("CREATE TABLE shop.working SELECT 1 i")
    drop = f"/usr/bin/mariadb --no-defaults -uroot -S {empty_mariadb._guarded.directory}/socket -e 'drop table shop.working'"
    found = stored(empty_mariadb, environ=programs(tmp_path, "--hex-blob", drop))
    assert found.errors == []
    assert found.inventory.databases[0].rows == {"t": 2, "working": None}
    assert found.inventory.databases[0].unsteady == ("working",)


def test_a_database_with_a_quote_in_its_name_is_stored_and_its_events_are_named(empty_mariadb, shop):
    name = "o'd\"d"
    shop.ask(f"CREATE DATABASE `{name}`; CREATE TABLE `{name}`.t SELECT 1 i; CREATE VIEW `{name}`.v AS SELECT 1 one")
    shop.ask(f"CREATE EVENT `{name}`.e ON SCHEDULE EVERY 1 DAY DO SELECT 1")
    try:
        found = stored(empty_mariadb, databases=(name,))
    finally:
        shop.ask(f"DROP DATABASE `{name}`")
    assert found.errors == ["the dump lacks event e: the dump program left it out"]
    assert found.inventory.databases[0].rows == {"t": 1}


def test_a_directory_of_the_file_system_is_no_database(empty_mariadb, shop):
    directory = empty_mariadb._guarded.directory / "data/lost+found"
    directory.mkdir()
    try:
        found = stored(empty_mariadb, databases=())
        assert found.errors == []
        assert any("lost+found is a directory and no database" in line for line in found.warnings)
    finally:
        directory.rmdir()


def test_a_row_larger_than_the_default_packet_is_dumped(empty_mariadb, shop):
    shop.ask("CREATE TABLE shop.scans SELECT 1 id, REPEAT(UNHEX('00FF27'), 6000000) pdf")
    found = stored(empty_mariadb)
    assert found.errors == []
    assert len(found.files["/mysql/shop/dump.sql"]) > 36_000_000


def test_rights_are_read_as_the_server_grants_them():
    rights = Rights(
        [
            "GRANT SELECT, SHOW VIEW ON `my\\_shop%`.* TO `b`@`%`",
            "GRANT `role` TO `b`@`%`",
            "GRANT TRIGGER ON *.* TO `role`",
            "GRANT SELECT (a, b), INSERT ON `mysql`.`proc` TO `b`@`%`",
            "GRANT ALL PRIVILEGES ON `a``b`.* TO `b`@`%` WITH GRANT OPTION",
        ],
        "`b`@`%`",
    )
    assert rights.may("SELECT", "my_shop1")
    assert not rights.may("SELECT", "myxshop1")
    assert not rights.may("SELECT")
    assert rights.may("TRIGGER", "any")
    assert rights.may("EVENT", "a`b")
    assert [line.split(" of ")[0] for line in rights.hidden("my_shop", is_mariadb=True)] == ["events", "routines"]


def test_objects_in_a_dump_are_found_however_they_are_written():
    schema = (
        "CREATE TABLE `a``b` (\nCREATE SEQUENCE `s` start\n/*!50001 CREATE VIEW `v` AS SELECT\n"
        "/*!50003 CREATE*/ /*!50017 DEFINER=`x`@`%`*/ /*!50003 trigger if not exists `tr` before\n"
        "/*!50106 CREATE*/ /*!50117 DEFINER=`x`@`%`*/ /*!50106 EVENT `e` ON SCHEDULE\n"
        'CREATE DEFINER="x"@"%" PROCEDURE "p""q"()\nCREATE DEFINER=`x`@`%` FUNCTION `f`() RETURNS\n'
    )
    there = {
        "TABLE": ["a`b"],
        "SEQUENCE": ["s"],
        "VIEW": ["v"],
        "TRIGGER": ["tr"],
        "EVENT": ["e"],
        "PROCEDURE": ['p"q'],
        "FUNCTION": ["f"],
    }
    assert lacking({kind: dict.fromkeys(names, "") for kind, names in there.items()}, schema) == []
    more = {kind: dict.fromkeys([*names, "z"], "") for kind, names in there.items()}
    assert len(lacking(more, schema)) == 7


def test_routines_of_any_sql_mode_are_found_in_the_dump_whatever_the_server_s_own_is(empty_mariadb, shop):
    for mode in ("ANSI_QUOTES", "ORACLE"):
        parts = [f"SET sql_mode='{mode}'", f"CREATE EVENT {mode}_e ON SCHEDULE EVERY 1 DAY DO SELECT 1"]
        parts += [f'CREATE TRIGGER "{mode}""t" BEFORE INSERT ON t FOR EACH ROW SET @a = 1']
        if mode == "ORACLE":
            parts += ["CREATE PROCEDURE o_p AS BEGIN SELECT 1; END", "CREATE PACKAGE pa AS PROCEDURE x; END"]
            parts += ["CREATE PACKAGE BODY pa AS PROCEDURE x AS BEGIN SELECT 1; END; END"]
        else:
            parts += ["CREATE PROCEDURE a_p() SELECT 1", "CREATE FUNCTION a_f() RETURNS INT RETURN 1"]
        with connected(shop) as session:
            session.ask("USE shop;\nDELIMITER //\n" + "//\n".join(parts) + "//\nDELIMITER ;\nSELECT 1")
    shop.ask("SET GLOBAL sql_mode = 'ORACLE', autocommit = 0")
    try:
        found = stored(empty_mariadb)
    finally:
        shop.ask("SET GLOBAL sql_mode = DEFAULT, autocommit = 1")
    assert found.errors == []
    assert {kind: sorted(names) for kind, names in found.inventory.databases[0].objects.items()} == {
        "EVENT": ["ANSI_QUOTES_e", "ORACLE_e"],
        "FUNCTION": ["a_f"],
        "PACKAGE": ["pa"],
        "PACKAGE BODY": ["pa"],
        "PROCEDURE": ["a_p", "o_p"],
        "TABLE": ["t"],
        "TRIGGER": ['ANSI_QUOTES"t', 'ORACLE"t'],
    }


def test_a_statement_that_fails_shows_no_row(empty_mariadb, shop):
    with connected(shop) as session:
        failed = session.attempt("INSERT INTO shop.nowhere VALUES ('a secret')")
        assert isinstance(failed, Failure)
        assert (failed.code, failed.message) == (1146, "Table 'shop.nowhere' doesn't exist")
        assert session.ask("SELECT 'a\tb\nc'") == [["a\tb\nc"]]
