"""A real PostgreSQL server for tests, on a private socket; skipped where there is none, except on CI."""

import os
from collections.abc import Iterator

import pytest

from drtool.errors import DrtoolError
from drtool.sources.postgresql.scratch_server import ScratchServer, programs_of

SETUP = """
CREATE ROLE clerk LOGIN PASSWORD 'clerk''s';
CREATE ROLE readers;
GRANT readers TO clerk;
CREATE DATABASE orders OWNER clerk;
CREATE DATABASE "odd/name" ;
"""
ORDERS = """
CREATE SCHEMA sales AUTHORIZATION clerk;
CREATE TABLE sales.items (id serial PRIMARY KEY, note text NOT NULL, at timestamptz DEFAULT now());
INSERT INTO sales.items (note) SELECT 'item ' || n FROM generate_series(1, 50000) n;
CREATE INDEX ON sales.items (note);
CREATE VIEW sales.few AS SELECT id, note FROM sales.items WHERE id <= 10;
CREATE MATERIALIZED VIEW sales.sums AS SELECT count(*) AS n FROM sales.items;
CREATE FUNCTION sales.twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
GRANT SELECT ON sales.items TO readers;
CREATE TABLE empty_one (a int);
CREATE TABLE "Quoted ""Table" (b text);
INSERT INTO "Quoted ""Table" VALUES ('ä'), (NULL);
"""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[ScratchServer]:
    """With roles, a database `orders` of 50,000 rows, and one whose name no file can have."""
    try:
        programs_of(os.environ)
    except DrtoolError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    server = ScratchServer((), os.environ)
    try:
        for statement in SETUP.split(";\n"):
            if statement.strip():
                server.client.ask(statement)
        with server.client.session("orders") as session:
            for statement in ORDERS.split(";\n"):
                if statement.strip():
                    session.ask(statement)
        yield server
    finally:
        assert server.stop() == []
