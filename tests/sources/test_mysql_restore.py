"""A MariaDB database comes back into servers as they are: users first, without SUPER, with large rows, in a second try."""

import os

import pytest
from captured import captured
from mariadb_server import empty_mariadb, start
from msgspec.structs import replace

from drtool.errors import Refused
from drtool.sources.databases import nobody_watches
from drtool.sources.mysql import MysqlSource
from drtool.sources.mysql.accounts import Record, lacking, of_new_users, subject
from drtool.sources.mysql.catalogue import MARK
from drtool.sources.mysql.client import Client
from drtool.sources.mysql.engine import ENGINE
from drtool.sources.mysql.loading import errors_of, without_definers
from drtool.sources.mysql.session import connected
from drtool.sources.mysql.unfinished import Locks

__all__ = ["empty_mariadb"]


@pytest.fixture(scope="module")
def other():
    target = start()
    try:
        yield target
    finally:
        assert target.stop() == []


@pytest.fixture
def shop(empty_mariadb, other):
    """The client of a server with a database `shop`, which is dropped on both servers afterwards."""
    client = Client(empty_mariadb.url, os.environ)
    client.ask(
        "CREATE DATABASE shop CHARACTER SET latin1; CREATE TABLE shop.t (i INT PRIMARY KEY); INSERT INTO shop.t VALUES (1), (2)"
    )
    client.ask("CREATE USER app@localhost IDENTIFIED BY 'x'; CREATE ROLE clerks; GRANT clerks TO app@localhost")
    client.ask("GRANT SELECT ON shop.t TO clerks")
    client.ask("CREATE DEFINER=app@localhost VIEW shop.v AS SELECT * FROM shop.t")
    client.ask("CREATE DEFINER=app@localhost TRIGGER shop.tr BEFORE INSERT ON shop.t FOR EACH ROW SET NEW.i = NEW.i")
    try:
        yield client
    finally:
        for each in (client, Client(other.url, os.environ)):
            each.ask(
                "DROP DATABASE IF EXISTS shop; DROP USER IF EXISTS app@localhost, admin@localhost; DROP ROLE IF EXISTS clerks"
            )


def dumped(server, tmp_path):
    found = captured(MysqlSource(server.url, databases=("shop",)))
    assert found.errors == []
    return found.inventory, found.put(tmp_path / "files")


def restored(server, dump, *, user="root"):
    """(everything that is not as recorded, warnings) of a restore by a user."""
    inventory, files = dump
    target = ENGINE.connect(server.url.replace("root@", f"{user}@"), os.environ, nobody_watches)
    warned = []
    try:
        target.check(inventory.databases)
        chosen = target.put_back(inventory, files, (), warned.append)
        found = target.differences(chosen, files, ("rowcount", "schema"))
    finally:
        assert target.stop() == []
    return [f"{row.where}: {row.detail}" for row in (*target.problems, *found)], warned


def test_users_come_before_what_they_define_and_rights_after_it_also_into_an_empty_database(
    empty_mariadb, other, shop, tmp_path
):
    there = Client(other.url, os.environ)
    there.ask("CREATE DATABASE shop CHARACTER SET utf8mb4")
    assert restored(other, dumped(empty_mariadb, tmp_path)) == ([], [])
    assert ["GRANT SELECT ON `shop`.`t` TO `clerks`"] in there.ask("SHOW GRANTS FOR clerks")
    assert there.ask(
        "SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = 'shop'"
    ) == [["latin1"]]
    assert there.ask("SELECT definer FROM information_schema.views WHERE table_schema = 'shop'") == [["app@localhost"]]
    assert MARK not in str(there.ask("SHOW TABLES FROM shop"))


@pytest.mark.thorough
def test_a_user_without_super_defines_things_himself_and_says_so(empty_mariadb, other, shop, tmp_path):
    there = Client(other.url, os.environ)
    there.ask("CREATE USER admin@localhost")
    rights = (
        "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, INDEX, ALTER, LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, "
        "CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER"
    )
    there.ask(f"GRANT {rights} ON *.* TO admin@localhost WITH GRANT OPTION")
    taken = dumped(empty_mariadb, tmp_path)
    found, _ = restored(other, taken, user="admin")
    assert found == [
        "shop: what `app`@`localhost` defined is defined by the restoring user, who may name no other (SET USER)"
    ]
    assert there.ask("SELECT COUNT(*) FROM shop.v") == [["2"]]
    assert there.ask("SELECT definer FROM information_schema.triggers WHERE trigger_schema = 'shop'") == [
        ["admin@localhost"]
    ]
    taken = dumped(empty_mariadb, tmp_path)
    again, warned = restored(other, taken, user="admin")
    assert (again, warned) == (found, ["shop was left unfinished by a restore, and is begun again"])
    there.ask("INSERT INTO shop.t VALUES (3)")
    with pytest.raises(Refused, match="has been changed since"):
        restored(other, taken, user="admin")


def test_an_interrupted_restore_is_begun_again_unless_somebody_added_something(empty_mariadb, other, shop, tmp_path):
    there, taken = Client(other.url, os.environ), dumped(empty_mariadb, tmp_path)
    restored(other, taken)
    there.ask(f"DELETE FROM shop.t WHERE i = 2; DROP TRIGGER shop.tr; CREATE TABLE shop.{MARK} (content VARCHAR(64))")
    for change, undo, told in (
        (
            "INSERT INTO shop.t VALUES (7), (8)",
            "DELETE FROM shop.t WHERE i > 6",
            "3 rows in t, of which 2 were recorded",
        ),
        ("CREATE TABLE shop.theirs (i INT)", "DROP TABLE shop.theirs", "the table theirs"),
        ("CREATE PROCEDURE shop.theirs() SELECT 1", "DROP PROCEDURE shop.theirs", "the procedure theirs"),
    ):
        there.ask(change)
        with pytest.raises(Refused, match=told):
            restored(other, taken)
        there.ask(undo)
    found, warned = restored(other, taken)
    assert (found, warned) == ([], ["shop was left unfinished by a restore, and is begun again"])
    assert MARK not in str(there.ask("SHOW TABLES FROM shop"))


def test_a_fault_belongs_to_its_database_and_a_second_try_leaves_the_good_one_alone(
    empty_mariadb, other, shop, tmp_path
):
    shop.ask("CREATE DATABASE bad; CREATE TABLE bad.t SELECT 1 i")
    there = Client(other.url, os.environ)
    try:
        found = captured(MysqlSource(empty_mariadb.url, databases=("shop", "bad")))
        files = found.put(tmp_path / "files")
        dump = files / "mysql/bad/dump.sql"
        whole = dump.read_bytes()
        dump.write_bytes(whole.replace(b"VALUES\n(1)", b"VALUES\n(1, 2)"))
        problems, _ = restored(other, (found.inventory, files))
        assert {line.split(":")[0] for line in problems} == {"bad"}
        assert [MARK in str(there.ask(f"SHOW TABLES FROM {name}")) for name in ("shop", "bad")] == [False, True]
        there.ask("DELETE FROM shop.t WHERE i = 2")
        dump.write_bytes(whole)
        problems, warned = restored(other, (found.inventory, files))
        assert problems == ["shop: t: 1 rows; 2 rows recorded"]
        assert "the database shop is there: it is left alone, and compared" in warned
        with pytest.raises(Refused, match="has a database"):
            restored(other, (found.inventory, files))
    finally:
        for client in (shop, there):
            client.ask("DROP DATABASE IF EXISTS bad")


def test_a_database_that_was_left_unfinished_is_stored_without_its_mark(empty_mariadb, other, shop, tmp_path):
    shop.ask(f"CREATE TABLE shop.{MARK} (content VARCHAR(64))")
    found = captured(MysqlSource(empty_mariadb.url, databases=("shop",)))
    assert found.errors == []
    assert any("a restore left it unfinished" in line for line in found.warnings)
    assert restored(other, (found.inventory, found.put(tmp_path / "files"))) == ([], [])


def test_two_restores_do_not_work_on_one_database(empty_mariadb, other, shop, tmp_path, monkeypatch):
    monkeypatch.setattr("drtool.sources.mysql.unfinished._END_S", 0)
    taken = dumped(empty_mariadb, tmp_path)
    locks = Locks(Client(other.url, os.environ))
    locks.take(["shop"])
    with pytest.raises(Refused, match="another restore of the database shop"):
        restored(other, taken)
    locks.release()
    assert restored(other, taken)[0] == []


def test_a_database_that_holds_only_routines_is_not_taken_for_empty(empty_mariadb, other, shop, tmp_path):
    Client(other.url, os.environ).ask("CREATE DATABASE shop; CREATE PROCEDURE shop.theirs() SELECT 1")
    with pytest.raises(Refused, match="has a database shop"):
        restored(other, dumped(empty_mariadb, tmp_path))


def test_one_statement_that_fails_is_named_without_its_rows(empty_mariadb, other, shop, tmp_path):
    shop.ask("CREATE TABLE shop.u (s VARCHAR(20)); INSERT INTO shop.u VALUES ('a secret'), ('more')")
    shop.ask("CREATE TABLE shop.z SELECT 1 i")
    inventory, files = dumped(empty_mariadb, tmp_path)
    dump = files / "mysql/shop/dump.sql"
    dump.write_bytes(dump.read_bytes().replace(b"`s` varchar(20) DEFAULT NULL", b"`s` varchar(20), `x` int"))
    found, _ = restored(other, (inventory, files))
    assert any(line.startswith("shop: ERROR 1136: ") for line in found)
    assert "shop: u: 0 rows; 2 rows recorded" in found
    assert not any("a secret" in line for line in found)
    assert Client(other.url, os.environ).ask("SELECT COUNT(*) FROM shop.z") == [["1"]]


@pytest.mark.thorough
def test_rows_larger_than_the_new_server_takes(empty_mariadb, other, shop, tmp_path):
    shop.ask("CREATE TABLE shop.scans SELECT 1 id, REPEAT(UNHEX('00FF27'), 6000000) pdf")
    there = Client(other.url, os.environ)
    ((before,),) = there.ask("SELECT @@GLOBAL.max_allowed_packet")
    there.ask("SET GLOBAL max_allowed_packet = 16777216")
    try:
        assert restored(other, dumped(empty_mariadb, tmp_path)) == ([], [])
        assert there.ask("SELECT LENGTH(pdf), @@GLOBAL.max_allowed_packet FROM shop.scans") == [
            ["18000000", "16777216"]
        ]
    finally:
        there.ask(f"SET GLOBAL max_allowed_packet = {before}")


@pytest.mark.thorough
def test_history_comes_back_and_is_compared(empty_mariadb, other, shop, tmp_path):
    shop.ask(
        "CREATE TABLE shop.prices (i INT PRIMARY KEY, p INT) WITH SYSTEM VERSIONING; INSERT INTO shop.prices VALUES (1, 10)"
    )
    shop.ask("UPDATE shop.prices SET p = 11; UPDATE shop.prices SET p = 12")
    inventory, files = dumped(empty_mariadb, tmp_path)
    assert restored(other, (inventory, files)) == ([], [])
    there = Client(other.url, os.environ)
    there.ask("DELETE HISTORY FROM shop.prices")
    found = ENGINE.connect(other.url, os.environ, nobody_watches).differences(inventory.databases, files, ("rowcount",))
    assert [row.detail for row in found] == ["1 rows with history; 3 recorded"]


def test_every_right_and_what_belongs_to_the_server_comes_back_and_is_compared(empty_mariadb, other, shop, tmp_path):
    there = Client(other.url, os.environ)
    shop.ask("CREATE PROCEDURE shop.p() SELECT 1; CREATE ROLE aa; CREATE ROLE zz; GRANT aa TO zz; GRANT zz TO clerks")
    shop.ask("GRANT SELECT ON shop.t TO PUBLIC; GRANT INSERT ON shop.* TO PUBLIC; GRANT RELOAD ON *.* TO clerks")
    shop.ask("GRANT SELECT (i), UPDATE (i) ON shop.t TO app@localhost; SET DEFAULT ROLE clerks FOR app@localhost")
    shop.ask("GRANT EXECUTE ON PROCEDURE shop.p TO clerks; GRANT PROXY ON root@localhost TO app@localhost")
    shop.ask("CREATE USER `o'dd`@`%` REQUIRE SSL; GRANT SELECT ON `sh\\_op`.* TO `o'dd`@`%`")
    shop.ask(
        "CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS (HOST '10.0.0.1', USER 'u', PASSWORD 's3cret', DATABASE 'd')"
    )
    shop.ask("INSTALL SONAME 'auth_ed25519'; CREATE USER ed@localhost IDENTIFIED VIA ed25519 USING PASSWORD('x')")
    try:
        inventory, files = dumped(empty_mariadb, tmp_path)
        assert inventory.grants["`clerks`"] == (
            "GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `clerks`",
            "GRANT RELOAD ON *.* TO `clerks`",
            "GRANT SELECT ON `shop`.`t` TO `clerks`",
            "GRANT `zz` TO `clerks`",
        )
        assert inventory.system["SERVER"] == {"far": "mysql 10.0.0.1 3306  d u "}
        assert "s3cret" not in str(inventory)
        assert restored(other, (inventory, files)) == ([], [])
        for each in ("PUBLIC", "clerks", "app@localhost", "zz", "`o'dd`@`%`"):
            assert there.ask(f"SHOW GRANTS FOR {each}") == shop.ask(f"SHOW GRANTS FOR {each}")
        assert there.ask("SELECT Server_name, Password FROM mysql.servers") == [["far", "s3cret"]]
        there.ask("DROP DATABASE shop; REVOKE RELOAD ON *.* FROM clerks")
        problems, warned = restored(other, (inventory, files))
        assert problems == []
        assert warned == [
            "users: `clerks` was there and keeps its rights; of those that were recorded it lacks GRANT RELOAD ON *.* TO `clerks`"
        ]
    finally:
        for client in (shop, there):
            client.ask(
                "DROP SERVER IF EXISTS far; DROP ROLE IF EXISTS aa, zz; DROP USER IF EXISTS `o'dd`@`%`, ed@localhost"
            )
            client.ask("UNINSTALL SONAME IF EXISTS 'auth_ed25519'")
            with connected(client) as session:
                session.attempt("REVOKE INSERT ON shop.* FROM PUBLIC")
                session.attempt("REVOKE SELECT ON shop.t FROM PUBLIC")


def test_a_right_that_does_not_come_back_is_named(empty_mariadb, other, shop, tmp_path):
    inventory, files = dumped(empty_mariadb, tmp_path)
    path = files / "mysql/users.sql"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "ON `shop`.`t`" not in line))
    found, _ = restored(other, (inventory, files))
    assert "users: missing: GRANT SELECT ON `shop`.`t` TO `clerks`" in found


def test_a_plugin_that_is_not_installed_is_a_fault_of_a_server_and_a_warning_of_a_scratch_server(
    empty_mariadb, other, shop, tmp_path
):
    inventory, files = dumped(empty_mariadb, tmp_path)
    path, system = files / "mysql/users.sql", {**inventory.system, "PLUGIN": {"odd": "odd.so"}}
    path.write_text(f"INSTALL PLUGIN `odd`  SONAME 'odd.so';\n{path.read_text()}")
    found, _ = restored(other, (replace(inventory, system=system), files))
    assert found[0].startswith("users: ERROR 1126: ")
    assert "users: missing: the plugin odd" in found
    scratch, warned = start(), []
    try:
        scratch.put_back(replace(inventory, system=system), files, (), warned.append)
        assert list(scratch.problems) == []
        assert any("INSTALL PLUGIN" in line for line in warned)
    finally:
        assert scratch.stop() == []


def test_what_the_dump_of_users_lacks_is_named():
    line = "GRANT SELECT ON *.* TO `a`@`%`"
    record = Record({"`a`@`%`": (line, "SET DEFAULT ROLE `r` FOR `a`@`%`")}, {"PLUGIN": {"p": "p.so"}})
    text = f"{line} IDENTIFIED BY PASSWORD '*7';\n/*M!100005 SET DEFAULT ROLE 'r' FOR 'a'@'%' */;\n"
    assert lacking(record, f"{text}INSTALL PLUGIN `p`  SONAME 'p.so';\n") == []
    assert lacking(record, "") == [f"the dump of users lacks: {each}" for each in record.grants["`a`@`%`"]] + [
        "the dump lacks the plugin p"
    ]


def test_the_account_of_a_statement_is_found_whatever_its_name():
    for line, account in (
        ("GRANT SELECT ON *.* TO `a TO b`@`%` IDENTIFIED BY PASSWORD '*7' WITH GRANT OPTION", ("a TO b", "%")),
        ("GRANT PROXY ON `root`@`localhost` TO `o'dd`@`h`", ("o'dd", "h")),
        ("/*M!100005 SET DEFAULT ROLE 'r' FOR 'o\\'dd'@'%' */;", ("o'dd", "%")),
        ("/*M!100005 CREATE ROLE 'TO' WITH ADMIN x */;", ("TO", "")),
        ("GRANT `r` TO `a``b` WITH ADMIN OPTION;", ("a`b", "")),
        ("GRANT SELECT ON `d`.* TO PUBLIC;", ("PUBLIC", "")),
        ("SET ROLE NONE;", None),
        ("", None),
    ):
        assert subject(line) == account


def test_roles_that_are_new_may_be_given_to_users_who_are_there():
    new = (
        "/*M!100005 CREATE ROLE 'read only' WITH ADMIN x */;\n"
        "/*M!100005 GRANT 'read only' TO 'root'@'localhost' WITH ADMIN OPTION */;\n"
        "GRANT `read only` TO `root`@`localhost` WITH ADMIN OPTION;\n"
    )
    assert of_new_users(f"{new}GRANT `old` TO `root`@`localhost`;\n", [["root", "localhost"], ["old", ""]]) == new


def test_only_definers_are_blanked_and_never_a_row(tmp_path):
    dump = tmp_path / "dump.sql"
    text = (
        "CREATE DEFINER=`a`@`h` PROCEDURE `p`()\n/*!50013 DEFINER=`b`@`%` SQL SECURITY DEFINER */\n"
        "/*!50003 CREATE*/ /*!50017 DEFINER=`me`@`h`*/ /*!50003 TRIGGER\n"
        "('CREATE DEFINER=`a`@`h`'),\n(' DEFINER=`a`@`h`');\n"
    )
    dump.write_text(text)
    assert without_definers(dump, lambda account: account == "`me`@`h`") == {"`a`@`h`", "`b`@`%`"}
    changed = dump.read_text()
    assert changed.split() == text.replace("DEFINER=`a`@`h` P", "P").replace("DEFINER=`b`@`%` ", "").split()
    assert len(changed) == len(text)


def test_messages_hold_no_values():
    stderr = (
        "ERROR 1062 (23000) at line 7: Duplicate entry 'ann's secret' for key 'PRIMARY'\n"
        "ERROR 1146 (42S02) at line 9: Table 'shop.t' doesn't exist\n"
        "ERROR 1064 (42000) at line 10: You have an error in your SQL syntax near 'ann's secret\nof two lines' at line 1\n"
        "ERROR 1644 (45000) at line 11: ann's secret is not allowed\n"
    )
    assert [words for _, _, words in errors_of(stderr)] == [
        "ERROR 1062: Duplicate entry '…'",
        "ERROR 1146: Table 'shop.t' doesn't exist",
        "ERROR 1064: You have an error in your SQL syntax near '…'",
        "ERROR 1644: a trigger or routine of the database refused it",
    ]
