"""A live MariaDB server: everything of it comes back, proven by queries; what fails leaves no snapshot."""

import os

import pytest

from drtool.errors import DrtoolError, Refused
from drtool.operations.backup import SourceJob
from drtool.operations.inventories import recorded
from drtool.sources.databases import nobody_watches
from drtool.sources.inventory import Inventory
from drtool.sources.mysql import MysqlSource
from drtool.sources.mysql.accounts import of_new_users
from drtool.sources.mysql.client import Client, connection_options, quoted
from drtool.sources.mysql.engine import ENGINE, url_of

SETUP = """
CREATE DATABASE shop;
CREATE TABLE shop.items (id INT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(50), data BLOB) ENGINE=InnoDB;
INSERT INTO shop.items (note, data) SELECT CONCAT('item ', seq), UNHEX(MD5(seq)) FROM shop.seq_1_to_20000;
CREATE VIEW shop.few AS SELECT id, note FROM shop.items WHERE id <= 10;
CREATE FUNCTION shop.twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n;
CREATE TRIGGER shop.shout BEFORE INSERT ON shop.items FOR EACH ROW SET NEW.note = COALESCE(NEW.note, 'none');
CREATE TABLE shop.`odd ``name` (a INT) ENGINE=Aria;
CREATE DATABASE `a/b`;
CREATE USER clerk@localhost IDENTIFIED BY 'secret';
CREATE USER `o'dd`@localhost IDENTIFIED BY 'secret';
CREATE ROLE boss;
GRANT boss TO clerk@localhost;
GRANT SELECT ON shop.* TO clerk@localhost;
"""


def start():
    return ENGINE.start((), os.environ, Inventory(drtool="mysql"), 0, nobody_watches)


@pytest.fixture(scope="module")
def server():
    lacking = ENGINE.lacks(os.environ, Inventory(drtool="mysql"), scratch=True)
    if lacking:
        if os.environ.get("CI"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    target = start()
    try:
        client = Client(target.url, os.environ)
        for statement in filter(None, map(str.strip, SETUP.split(";\n"))):
            client.ask(statement)
        yield target
    finally:
        assert target.stop() == []


def stored(world, dsn, *, environ=None, dry_run=False, **more):
    job = SourceJob(name="shop", captured=MysqlSource(dsn, **more))
    with world.open() as repository:
        return world.run_jobs(repository, job, environ=environ or dict(os.environ), dry_run=dry_run).snapshots[0]


def fails(world, dsn, **more):
    before = world.snapshots()
    with pytest.raises(DrtoolError) as caught:
        stored(world, dsn, **more)
    assert world.snapshots() == before
    assert caught.value.exit_code == 1
    return caught.value.message


def inventory_of(world):
    with world.open() as repository:
        return recorded(repository, list(repository.view.state.snapshots)[-1])


@pytest.mark.thorough
def test_names_that_look_like_options_or_null_are_names(world, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    client = Client(server.url, os.environ)
    names = ["--result-file=victim", "--help", "-rf", "NULL", "new\nline", "line\u2028separator", "tab\there"]
    try:
        for name in names:
            client.ask(f"CREATE DATABASE {quoted(name)}")
            client.ask(f"CREATE TABLE {quoted(name)}.{quoted('NULL')} SELECT 1 one")
        assert stored(world, server.url, databases=names).errors == []
        assert victim.read_text() == "precious"
        inventory = inventory_of(world)
        assert {row.name: row.rows for row in inventory.databases} == {name: {"NULL": 1} for name in names}
        assert world.restore(tmp_path / "out").errors == []
        other, problems = start(), []
        try:
            chosen = other.put_back(inventory, tmp_path / "out", (), problems.append)
            assert other.differences(chosen, tmp_path / "out", ("rowcount", "schema")) == []
        finally:
            assert other.stop() == []
    finally:
        for name in names:
            client.ask(f"DROP DATABASE IF EXISTS {quoted(name)}")
    assert victim.read_text() == "precious"


def test_everything_comes_back_and_is_proven(world, server, tmp_path):
    report = stored(world, server.url)
    assert report.errors == []
    assert any("Aria" in message for message in world.warnings())
    assert world.restore(tmp_path / "out").errors == []
    inventory = inventory_of(world)
    assert [row.name for row in inventory.databases] == ["a/b", "shop"]
    assert inventory.databases[1].rows == {"items": 20_000, "odd `name": 0}
    told = []
    target = start()
    try:
        chosen = target.put_back(inventory, tmp_path / "out", ("shop",), told.append)
        assert told == []
        client = Client(target.url, os.environ)
        assert client.ask("SELECT note FROM shop.few ORDER BY id LIMIT 1") == [["item 1"]]
        assert client.ask("SELECT shop.twice(21)") == [["42"]]
        assert client.ask("SELECT COUNT(*) FROM shop.items WHERE data = UNHEX(MD5(id))") == [["20000"]]
        assert any("shop" in row[0] for row in client.ask("SHOW GRANTS FOR clerk@localhost"))
        assert target.differences(chosen, tmp_path / "out", ("rowcount", "schema")) == []
        client.ask("DELETE FROM shop.items WHERE id = 7")
        client.ask("DROP TRIGGER shop.shout")
        found = target.differences(chosen, tmp_path / "out", ("rowcount", "schema"))
        assert [row.detail for row in found if row.what == "rowcount"] == ["19999 rows; 20000 rows recorded"]
        assert any("shout" in row.detail for row in found if row.what == "schema")
        with pytest.raises(Refused, match="shop"):
            ENGINE.connect(target.url, os.environ, nobody_watches).check(chosen)
    finally:
        assert target.stop() == []


def test_users_that_are_there_keep_their_passwords_and_rights():
    dump = (
        "CREATE USER `root`@`localhost` IDENTIFIED BY PASSWORD '*7';\nCREATE USER `o'dd`@`%` IDENTIFIED BY PASSWORD '*8';\n"
        "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` IDENTIFIED BY PASSWORD '*7' WITH GRANT OPTION;\n"
        "/*M!100005 SET DEFAULT ROLE NONE FOR 'o\\'dd'@'%' */;\n/*M!100005 CREATE ROLE 'boss' WITH ADMIN x */;\n"
        "GRANT USAGE ON *.* TO `boss`;\nCREATE USER `clerk`@`localhost`;\nGRANT `boss` TO `clerk`@`localhost`;\n"
    )
    left = "CREATE USER `clerk`@`localhost`;\nGRANT `boss` TO `clerk`@`localhost`;\n"
    assert of_new_users(dump, [["root", "localhost"], ["o'dd", "%"], ["boss", ""]]) == left
    assert of_new_users(dump, []) == dump


@pytest.mark.thorough
def test_a_server_whose_root_has_a_password_is_restored(world, server, tmp_path):
    """In the scratch server root has none, and must not get it: nobody could ask that server anything any more."""
    environ = {**os.environ, "MYSQL_PWD": "s3cret"}
    Client(server.url, os.environ).ask("SET PASSWORD FOR root@localhost = PASSWORD('s3cret')")
    try:
        stored(world, server.url, databases=["a/b"], environ=environ)
    finally:
        Client(server.url, environ).ask("SET PASSWORD FOR root@localhost = PASSWORD('')")
    world.restore(tmp_path / "out")
    target, told = start(), []
    try:
        assert [row.name for row in target.put_back(inventory_of(world), tmp_path / "out", (), told.append)] == ["a/b"]
        assert told == []
        users = Client(target.url, os.environ).ask("SELECT User FROM mysql.user WHERE User IN ('clerk', 'boss')")
        assert len(users) == 2
    finally:
        assert target.stop() == []


def test_an_unchanged_server_stores_nothing(world, server):
    stored(world, server.url, databases=["shop"])
    again = stored(world, server.url, databases=["shop"])
    assert (again.files.new, again.files.changed, again.added_bytes) == (0, 0, 0)


def test_servers_that_cannot_be_dumped(world, server, tmp_path):
    assert "/nowhere" in fails(world, "mysql://root@/?socket=/nowhere")
    message = fails(world, server.url.replace("root@", "clerk:wr0ng@"))
    assert "Access denied" in message
    assert "wr0ng" not in message
    assert "no database 'missing'" in fails(world, server.url, databases=["missing"])
    assert "there is no program" in fails(world, server.url, environ={"PATH": str(tmp_path)})


def test_a_dump_that_dies_halfway_leaves_nothing(world, server, tmp_path):
    program = tmp_path / "mariadb-dump"
    program.write_text(
        '#!/bin/sh\nfor word in "$@"; do\n[ "$word" = --single-transaction ] || continue\n'
        'head -c 5000000 /dev/urandom; echo lost connection >&2; exit 2\ndone\nexec /usr/bin/mariadb-dump "$@"\n'
    )
    program.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert "lost connection" in fails(world, server.url, databases=["shop"], environ=environ)


def test_a_dry_run_says_what_there_is_and_stores_nothing(world, server):
    report = stored(world, server.url, dry_run=True)
    assert (report.id, world.snapshots()) == (None, [])
    assert any("MariaDB" in fact for fact in report.facts)


@pytest.mark.parametrize(
    ("dsn", "options", "password"),
    [
        ("", {}, ""),
        ("mysql://u:p%40@h:3307/d", {"host": "h", "port": "3307", "user": "u"}, "p@"),
        ("mysql://u:#?[]+%2F%25%@[::1]:1/", {"host": "::1", "port": "1", "user": "u"}, "#?[]+/%%"),
        ("mariadb://root@/?socket=/run/s", {"user": "root", "socket": "/run/s"}, ""),
    ],
)
def test_dsns(dsn, options, password):
    assert connection_options(dsn) == (options, password)


@pytest.mark.parametrize(
    "dsn", ["postgresql://x/", "secret", "mysql://h/?nonsense=1", "mysql://h:secret/", "mysql://u:a/secret?secret=1@h"]
)
def test_an_invalid_dsn_is_refused_and_not_repeated(dsn):
    with pytest.raises(ValueError) as caught:
        MysqlSource(dsn)
    assert "secret" not in str(caught.value)


def test_a_socket_is_quoted_in_a_url(tmp_path):
    assert connection_options(url_of(tmp_path / "a b", "d/e"))[0]["socket"] == str(tmp_path / "a b/socket")
