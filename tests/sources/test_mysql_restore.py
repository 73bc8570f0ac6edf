"""A MariaDB database comes back into servers as they are: users first, without SUPER, with large rows, in a second try."""

import os

import pytest
from captured import captured
from mariadb_server import empty_mariadb, start

from drtool.errors import Refused
from drtool.sources.databases import nobody_watches
from drtool.sources.mysql import MysqlSource
from drtool.sources.mysql.client import Client
from drtool.sources.mysql.engine import ENGINE
from drtool.sources.mysql.loading import MARK, errors_of, of_new_users, without_definers

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
    target.check(inventory.databases)
    warned = []
    try:
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
    there.ask(f"DELETE FROM shop.{MARK}")
    with pytest.raises(Refused, match="was interrupted"):
        restored(other, taken, user="admin")


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
    )
    assert [words for _, _, words in errors_of(stderr)] == [
        "ERROR 1062: Duplicate entry '…'",
        "ERROR 1146: Table 'shop.t' doesn't exist",
    ]
