"""SQL probes: a real SQLite with a log beside it, a real PostgreSQL where one is installed, and the script for MySQL."""

import hashlib
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from action_world import CANARY, child, context, needs, run_context, step_context, work
from hypothesis import given
from hypothesis import strategies as st

from drtool.plans.actions.probing import ProbeAction
from drtool.plans.actions.probing.mysql import mysql_cell, mysql_script
from drtool.plans.actions.probing.postgresql import postgres_environment
from drtool.plans.actions.probing.replies import CannotAsk, cell

probe = ProbeAction()
BINARIES = Path("/usr/lib/postgresql")


def act(tmp_path, engine, dsn, query, *params, expect, **world):
    inputs = {
        "type": "sql",
        "engine": engine,
        "dsn": str(dsn),
        "query": query,
        "params": list(params),
        "expect": expect,
    }
    return probe.act(step_context("probe", inputs), run_context(tmp_path, **world), work())


def state_of(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


# -- SQLite


@pytest.fixture
def database(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with sqlite3.connect(folder / "app.db") as connection:
        connection.execute("create table t(id integer, name text)")
        connection.executemany("insert into t values(?, ?)", [(1, "ann"), (2, "o'hara"), (3, None)])
    connection.close()
    return folder / "app.db"


@pytest.mark.parametrize(
    ("query", "params", "expect", "status"),
    [
        ("select count(*) from t", (), {"equals": 3}, "passed"),
        ("select count(*) from t", (), {"min": 1, "max": 2}, "failed"),
        ("select count(*) from t", (), {"min": 3}, "passed"),
        ("select name from t where id = ?", (2,), {"equals": "o'hara"}, "passed"),
        ("select id from t where name = ?", ("' or 1=1 --",), {"rows": 0}, "passed"),
        ("select name from t where id = 3", (), {"equals": "ann"}, "failed"),
        ("select name from t where id = 3", (), {"min": 0}, "failed"),
        ("select name from t where id = 9", (), {"equals": "ann"}, "failed"),
        ("select id from t", (), {"rows": 2}, "failed"),
        ("select nonsense from t", (), {"rows": 2}, "failed"),
        ("delete from t", (), {"rows": 0}, "failed"),
        ("select 1; select 2", (), {"rows": 1}, "failed"),
    ],
)
def test_sqlite_answers_and_is_never_changed(tmp_path, database, query, params, expect, status):
    before = state_of(database.parent)
    outcome = act(tmp_path, "sqlite", f"sqlite://{database}", query, *params, expect=expect)
    assert outcome.status == status, outcome.detail
    assert state_of(database.parent) == before


def test_a_sqlite_at_rest_in_wal_mode_gets_no_files_beside_it(tmp_path, database):
    connection = sqlite3.connect(database)
    connection.execute("pragma journal_mode = wal")
    connection.close()
    before = state_of(database.parent)
    outcome = act(tmp_path, "sqlite", database, "select count(*) from t", expect={"equals": 3})
    assert outcome.status == "passed"
    assert state_of(database.parent) == before


def test_a_sqlite_in_use_shows_rows_that_are_only_in_its_log(tmp_path, database):
    connection = sqlite3.connect(database)
    connection.execute("pragma journal_mode = wal")
    connection.execute("insert into t values(4, 'late')")
    connection.commit()
    outcome = act(tmp_path, "sqlite", database, "select count(*) from t", expect={"equals": 4})
    connection.close()
    assert outcome.status == "passed"


def test_a_copy_with_an_unused_log_is_unproven_and_unchanged(tmp_path, database):
    connection = sqlite3.connect(database)
    connection.execute("pragma journal_mode = wal")
    connection.execute("insert into t values(4, 'late')")
    connection.commit()
    copy = tmp_path / "copy"
    copy.mkdir()
    for end in ("", "-wal"):
        shutil.copy(f"{database}{end}", copy / f"app.db{end}")
    connection.close()
    before = state_of(copy)
    outcome = act(tmp_path, "sqlite", copy / "app.db", "select count(*) from t", expect={"equals": 4})
    assert (outcome.status, "-wal without its -shm" in outcome.detail) == ("unproven", True)
    assert state_of(copy) == before


def test_no_database_is_failed_and_none_is_made(tmp_path):
    assert act(tmp_path, "sqlite", tmp_path / "gone.db", "select 1", expect={"rows": 1}).status == "failed"
    assert not (tmp_path / "gone.db").exists()
    (tmp_path / "text.db").write_text("this is no database at all" * 99)
    assert act(tmp_path, "sqlite", tmp_path / "text.db", "select * from t", expect={"rows": 1}).status == "failed"


def test_an_endless_query_is_abandoned(tmp_path, database):
    query = "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r"
    inputs = {"type": "sql", "engine": "sqlite", "dsn": str(database), "query": query, "expect": {"rows": 1}}
    began = time.monotonic()
    outcome = probe.act(step_context("probe", inputs), run_context(tmp_path), work(0.6))
    assert (outcome.status, "in time" in outcome.detail) == ("failed", True)
    assert time.monotonic() - began < 30


def test_the_dry_run_asks_a_database_that_is_there_and_defers_one_that_is_not_yet(tmp_path, database):
    inputs = {"type": "sql", "engine": "sqlite", "dsn": str(database), "query": "select 1", "expect": {"equals": 1}}
    assert probe.preview(step_context("probe", inputs), run_context(tmp_path)).verdict == "ok"
    later = step_context("probe", inputs | {"dsn": "${{ steps.db.outputs.dsn }}"}, context=context(steps=needs("db")))
    assert probe.preview(later, run_context(tmp_path)).detail == "needs db"


# -- PostgreSQL


def _server_programs():
    found = sorted(BINARIES.glob("*/bin/initdb"))
    return found[-1].parent if found and shutil.which("psql") else None


class Cluster:
    """A server on a private socket and a loopback port, with a password."""

    def __init__(self, folder, programs):
        self.folder, self.programs = folder, programs
        self.password = CANARY
        self.as_user = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("nobody")
            self.as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def run(self, *words, **more):
        subprocess.run(words, check=True, capture_output=True, cwd=self.folder, **self.as_user, **more)

    def start(self):
        (self.folder / "pw").write_text(self.password)
        (self.folder / "pw").chmod(0o644)
        data = str(self.folder / "data")
        self.run(
            self.programs / "initdb",
            "-D",
            data,
            "-U",
            "app",
            "-A",
            "scram-sha-256",
            "--pwfile",
            self.folder / "pw",
            "-N",
        )
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c fsync=off -k {self.folder}"
        self.run(self.programs / "pg_ctl", "-D", data, "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self):
        self.run(self.programs / "pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")

    @property
    def dsn(self):
        return f"postgresql://app:{self.password}@127.0.0.1:{self.port}/postgres"


@pytest.fixture(scope="module")
def cluster():
    programs = _server_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server and psql are not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    one = Cluster(folder, programs)
    try:
        one.start()
        environ = {"PGPASSWORD": one.password, "PATH": os.environ["PATH"]}
        script = (
            "create table orders(id int, name text); insert into orders values (1, 'ann'), (2, 'o''hara'), (3, null)"
        )
        subprocess.run(
            ["psql", "-X", "-h", "127.0.0.1", "-p", str(one.port), "-U", "app", "postgres", "-c", script],
            env=environ,
            check=True,
            capture_output=True,
        )
        yield one
        one.stop()
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("query", "params", "expect", "status"),
    [
        ("select count(*) from orders", (), {"min": 1, "equals": 3}, "passed"),
        ("select count(*) from orders;", (), {"max": 2}, "failed"),
        ("select id from orders where name = $1", ("o'hara",), {"equals": 2, "rows": 1}, "passed"),
        ("select id from orders where name = $1 and id = $2", ("ann", 1), {"rows": 1}, "passed"),
        ("select id from orders where name = $1", ("' or 1=1 --",), {"rows": 0}, "passed"),
        (
            "select $1::text",
            ("a\\b'c\n\t:x `id` \\! touch /x €",),
            {"equals": "a\\b'c\n\t:x `id` \\! touch /x €"},
            "passed",
        ),
        ("select $1::boolean", (True,), {"equals": True}, "passed"),
        ("select coalesce($1::text, 'none')", (None,), {"equals": "none"}, "passed"),
        ("select name from orders where id = 3", (), {"equals": ""}, "failed"),
        ("show transaction_read_only", (), {"equals": "on"}, "passed"),
        ("select ':x', '\\! touch /x'", (), {"equals": ":x"}, "passed"),
        ("delete from orders", (), {"rows": 0}, "failed"),
        ("delete from orders where id = $1", (1,), {"rows": 0}, "failed"),
        ("select 1; commit; drop table orders", (), {"rows": 1}, "failed"),
        ("select nonsense", (), {"rows": 1}, "failed"),
        ("select pg_sleep(60)", (), {"rows": 1}, "failed"),
    ],
)
@pytest.mark.spread(7)
def test_postgresql_answers_and_is_never_changed(tmp_path, cluster, query, params, expect, status):
    inputs = {
        "type": "sql",
        "engine": "postgresql",
        "dsn": cluster.dsn,
        "query": query,
        "params": list(params),
        "expect": expect,
    }
    outcome = probe.act(step_context("probe", inputs), run_context(tmp_path), work(3.0 if "sleep" in query else 20.0))
    assert outcome.status == status, outcome.detail
    assert CANARY not in repr(outcome)
    after = act(tmp_path, "postgresql", cluster.dsn, "select count(*) from orders", expect={"equals": 3})
    assert after.status == "passed", after.detail


def test_a_dsn_of_keywords_and_a_private_socket(tmp_path, cluster):
    dsn = f"host={cluster.folder} port={cluster.port} dbname=postgres user=app password='{CANARY}'"
    assert act(tmp_path, "postgresql", dsn, "select 1", expect={"equals": 1}).status == "passed"


def test_a_wrong_password_and_no_server_are_failed(tmp_path, cluster):
    wrong = cluster.dsn.replace(CANARY, "wrong-password")
    outcome = act(tmp_path, "postgresql", wrong, "select 1", expect={"equals": 1})
    assert (outcome.status, "password" in outcome.detail, "wrong-password" in outcome.detail) == ("failed", True, False)
    assert (
        act(tmp_path, "postgresql", "postgresql://a@127.0.0.1:9/b", "select 1", expect={"rows": 1}).status == "failed"
    )


def test_neither_password_nor_query_is_in_the_arguments_of_a_program(tmp_path, cluster):
    seen, over = [], threading.Event()

    def watch():
        while not over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.append(path.read_bytes())
                except (FileNotFoundError, ProcessLookupError):
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    query = "select pg_sleep(0.5), 'secret-query', $1::text"
    outcome = act(tmp_path, "postgresql", cluster.dsn, query, CANARY, expect={"rows": 1})
    over.set()
    thread.join()
    assert outcome.status == "passed", outcome.detail
    assert any(b"--no-psqlrc" in line for line in seen)
    asked_with = [line for line in seen if b"psql" in line]
    assert not any(CANARY.encode() in line or b"secret-query" in line for line in asked_with)


def test_without_a_client_it_is_unproven(tmp_path):
    for engine, dsn in (("postgresql", "postgresql://h/d"), ("mysql", "mysql://h/d")):
        outcome = act(tmp_path, engine, dsn, "select 1", expect={"rows": 1}, environ={"PATH": "/empty"})
        assert (outcome.status, "there is no program" in outcome.detail) == ("unproven", True)


@pytest.mark.parametrize(
    "dsn", ["mysql://h/d", "postgresql://h/d?nonsense=x", "oneword", "user='x", "postgresql://h:x/d"]
)
def test_a_dsn_that_cannot_be_understood_is_unproven_and_not_repeated(tmp_path, dsn):
    outcome = act(tmp_path, "postgresql", dsn, "select 1", expect={"rows": 1})
    assert outcome.status == "unproven"
    assert dsn not in outcome.detail


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_any_password_survives_a_dsn(password):
    from urllib.parse import quote

    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    assert postgres_environment(f"postgresql://u:{quote(password, safe='')}@h/d")["PGPASSWORD"] == password
    assert postgres_environment(f"user=u password='{quoted}' host=h")["PGPASSWORD"] == password


def test_strange_dsns_are_refused():
    with pytest.raises(CannotAsk, match="options"):
        postgres_environment("postgresql://h/d?options=-c")


# -- MySQL


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_no_value_can_leave_its_literal(text):
    script = mysql_script("select ?", [text])
    assert script.isascii()
    assert script.splitlines()[0] == f"SET @p1 = CONVERT(X'{text.encode().hex()}' USING utf8mb4);"


def test_the_script_for_mysql():
    script = mysql_script("select count(*) from t where a = ? and b = ?;", [True, None])
    assert script.splitlines() == [
        "SET @p1 = 1;",
        "SET @p2 = NULL;",
        f"SET @statement = CONVERT(X'{b'select count(*) from t where a = ? and b = ?'.hex()}' USING utf8mb4);",
        "START TRANSACTION READ ONLY;",
        "PREPARE drtool_probe FROM @statement;",
        "EXECUTE drtool_probe USING @p1, @p2;",
        "ROLLBACK;",
    ]


def test_the_answer_of_mysql_is_parsed(tmp_path):
    asked_with = []

    def client(argv, **more):
        asked_with.append((argv, more))
        return child(stdout=b"3\ta\\tb\nNULL\tx\n")

    dsn = f"mysql://app:{CANARY}@db:3307/shop"
    outcome = act(tmp_path, "mysql", dsn, "select 1", expect={"equals": 3, "rows": 2}, program=client)
    argv, more = asked_with[0]
    assert outcome.status == "passed"
    assert {"--host=db", "--port=3307", "--user=app", "--database=shop"} <= set(argv)
    assert CANARY not in repr(argv)
    assert more["env"]["MYSQL_PWD"] == CANARY


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("-7", -7), ("007", "007"), ("1.50", 1.5), ("1e5", "1e5"), ("", ""), ("t", "t")]
)
def test_cells(text, value):
    assert cell(text) == value
    assert mysql_cell("NULL") is None
