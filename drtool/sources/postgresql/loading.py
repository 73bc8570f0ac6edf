"""One database of a snapshot into a server: made or taken over empty, loaded entry by entry, its properties applied.

Invariants
    An entry that fails is reported with the server's own first words, and the others are loaded. No row is in a message.
    A database that is being loaded carries a mark until it is whole: see `unfinished`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from drtool.sources.children import ProgramFailed
from drtool.sources.postgresql.catalogue import MARK
from drtool.sources.postgresql.client import Client
from drtool.sources.postgresql.dsn import of_database

RETRIES_MAX = 50
WRITABLE = "-c default_transaction_read_only=off"
_SECTION = re.compile(
    r"^--\n-- Name: [^\n]*; Type: (DATABASE|DATABASE PROPERTIES|ACL|COMMENT|SECURITY LABEL); [^\n]*\n--\n", re.MULTILINE
)
_CREATE = re.compile(r"CREATE DATABASE .*?;\n(?=\n\nALTER DATABASE |\s*\\|\s*\Z)", re.DOTALL)
_TABLESPACE = re.compile(r' TABLESPACE = (?:"(?:[^"]|"")+"|\w+)')
_REGRANT = re.compile(
    r"^REVOKE ([A-Z,]+) ON DATABASE (.+) FROM (.+);\nGRANT ([A-Z,]+) ON DATABASE \2 TO \3;$", re.MULTILINE
)
_OF_DATABASE = re.compile(r"^\d+; \d+ \d+ (?:ACL|COMMENT|SECURITY LABEL) - DATABASE ")
_EMPTY_PATH = b"SELECT pg_catalog.set_config('search_path', '', false);"
_HEAD_BYTES = 1 << 16
_READS_ROWS = re.compile(
    r"(?:TABLE|MATERIALIZED VIEW) DATA |BLOBS? |LARGE OBJECT |(?:CHECK |FK )?CONSTRAINT |INDEX |SEQUENCE SET |"
    r"(?:TABLE|INDEX) ATTACH "
)
"""Entries at which the server reads rows, so that its words may hold some."""
_RAISED = re.compile(r"at RAISE$|\bPL/(?!pgSQL)")
"""A context that says that the message was made by a function, out of whatever it had."""
_KIND = (
    r"(?:role|schema|relation|type|function|operator|aggregate|extension|column|collation|access method|language|tablespace"
    r"|server|table|sequence|view|index|database|constraint|text search \w+|foreign-data wrapper|publication|subscription)"
)
_OF_NAMES = re.compile(
    rf"{_KIND} .+ (?:does not exist|already exists|is not available)|permission denied .+|must be .+"
    r'|(?:new row for relation|insert or update on table|update or delete on table) ".+" violates .+ constraint ".+"'
    r'|duplicate key value violates unique constraint ".+"|conflicting key value violates exclusion constraint ".+"'
    r'|could not create (?:unique|exclusion) (?:index|constraint) ".+"|value for domain .+ violates check constraint ".+"'
    r'|null value in column ".+" violates not-null constraint|column ".+" contains null values'
    r'|check constraint ".+" is violated by some row|no partition of relation ".+" found for row'
    r'|could not (?:open|access|load|extend|write to|create) [a-z ]*(?:file|library|directory) ".+"(?:: [A-Z][a-z ]+)?'
)
"""The server's words of which every quoted one is a name."""
_VALUE = re.compile(r'(: )?".*|: .*', re.DOTALL)


class Problem(NamedTuple):
    """An entry of a dump that could not be loaded. `number`: its own in the dump; 0 if it is not known."""

    number: int
    entry: str
    message: str


def told(message: str, context: str = "", *, reads_rows: bool = False) -> str:
    """The server's first line, without a value of a row."""
    first = message.strip().splitlines()[0] if message.strip() else "it said nothing"
    raised = next((line for line in context.splitlines() if _RAISED.search(line)), None)
    if raised is not None:
        return f"a function of the database refused it: {raised.removeprefix('CONTEXT:').strip()}"
    if not reads_rows or _OF_NAMES.fullmatch(first):
        return first
    return _VALUE.sub(lambda match: f'{match[1] or ""}"…"' if '"' in match[0] else ": …", first)


def problems_of(stderr: str) -> list[Problem]:
    """What a verbose pg_restore complained of: each error with the entry that it was at."""
    found, number, entry = [], 0, ""
    for part in re.split(r"^(?=pg_restore: )", stderr, flags=re.MULTILINE):
        line, _, rest = part.partition("\n")
        if at := re.match(r"pg_restore: from TOC entry (\d+); \d+ \d+ (.*)", line):
            number, entry = int(at[1]), at[2]
        elif error := re.match(r"pg_restore: error: (.*)", line):
            message = error[1].partition("ERROR:  ")[2] or error[1]
            reads_rows = bool(_READS_ROWS.match(entry))
            context = rest.partition("CONTEXT:")[2].partition("Command was:")[0]
            found.append(Problem(number, entry, told(message, context, reads_rows=reads_rows)))
    return found


class Properties(NamedTuple):
    """SQL of a dump about the database as a whole."""

    create: str
    rest: str
    """Owner, rights, comment and settings."""


def properties_of(text: str, *, without_tablespace: bool, without_owner: bool) -> Properties:
    """Take apart what `pg_restore --create` says of the database alone."""
    parts = _SECTION.split(text)
    sections: dict[str, str] = {}
    for kind, body in zip(parts[1::2], parts[2::2], strict=True):
        lines = re.split(r"^(?:\\|--\n-- )", body, maxsplit=1, flags=re.MULTILINE)[0]
        sections[kind] = sections.get(kind, "") + lines.strip() + "\n"
    first = sections.pop("DATABASE", "")
    create = _CREATE.match(first)
    owner = first[create.end() :].strip() if create else ""
    made = create[0] if create else ""
    if without_owner:
        owner = ""
        sections.pop("ACL", None)
    rest = "\n".join([owner, *(_REGRANT.sub(_regranted, text) for text in sections.values())])
    return Properties(_TABLESPACE.sub("", made) if without_tablespace else made, rest)


def _regranted(match: re.Match[str]) -> str:
    """Revoke only what is not granted again at once: whoever is at work in an existing database keeps it throughout."""
    taken, given = match[1].split(","), match[4].split(",")
    left, more = [each for each in taken if each not in given], [each for each in given if each not in taken]
    revoke = f"REVOKE {','.join(left)} ON DATABASE {match[2]} FROM {match[3]};" if left else ""
    grant = f"GRANT {','.join(more)} ON DATABASE {match[2]} TO {match[3]};" if more else ""
    return f"{revoke}\n{grant}"


class Loading:
    """Loads one dump into one database."""

    def __init__(
        self,
        client: Client,
        name: str,
        dump: Path,
        *,
        without_tablespaces: bool,
        without_owners: bool,
        marked: bool,
        clean: bool = False,
        owner: str = "",
    ) -> None:
        """`owner`: quoted; empty if it is not known. `clean`: drop what an unfinished restore left."""
        self._owner, self._quoted = "" if without_owners else owner, '"' + name.replace('"', '""') + '"'
        self._client, self._name, self._dump, self._marked = client, name, dump, marked
        self.has_mark = False
        self._without_tablespaces, self._without_owners = without_tablespaces, without_owners
        self._options: list[str] = [
            *(["--no-tablespaces"] if without_tablespaces else []),
            *(["--no-owner"] if without_owners else []),
        ]
        self._clean = ["--clean", "--if-exists"] if clean else []

    def run(self, there: bool) -> list[Problem]:
        """Return what could not be loaded. Raises DrtoolError if there is no database to load into."""
        text = self._properties()
        problems = []
        if not there:
            self._create(text.create)
        if self._marked:
            self.has_mark = self._mark()
        if text.rest.strip():
            problems += self._applied(text.rest)
        argv = [
            "pg_restore",
            "--no-password",
            "--verbose",
            *self._options,
            *self._clean,
            f"--dbname={of_database(self._name)}",
        ]
        code, stderr = self._client.fed(argv, self._dump, WRITABLE if self._is_read_only() else "")
        found = problems_of(stderr)
        if code and not found:
            problems.append(
                Problem(
                    0,
                    "",
                    f"pg_restore ended with {code}: {told(stderr.strip().splitlines()[-1] if stderr.strip() else '')}",
                )
            )
        return [*problems, *self._again(found)]

    def _mark(self) -> bool:
        """Whether the mark could be made: of an empty database of somebody else, this user may fill a schema and make none."""
        with self._client.session(self._name) as session:
            session.ask("BEGIN READ WRITE")
            made = session.applied(f"CREATE SCHEMA IF NOT EXISTS {MARK}")
            session.ask("COMMIT")
        return made

    def _properties(self) -> Properties:
        """Of a name that no script can hold (with a line end), nothing but the owner."""
        here, dump = self._client.here, str(self._dump)
        try:
            rows = (
                here(["pg_restore", "--create", "--list", "--", dump]).decode("utf-8", "surrogateescape").splitlines()
            )
            chosen = self._dump.with_name("properties.list")
            chosen.write_text(
                "\n".join(row for row in rows if _OF_DATABASE.match(row)) + "\n", "utf-8", "surrogateescape"
            )
            text = here(["pg_restore", "--create", f"--use-list={chosen}", "--file=-", "--", dump])
        except ProgramFailed as error:
            if "newline or carriage return" not in error.message:
                raise
            return Properties("", f"ALTER DATABASE {self._quoted} OWNER TO {self._owner};" if self._owner else "")
        return properties_of(
            text.decode("utf-8", "surrogateescape"),
            without_tablespace=self._without_tablespaces,
            without_owner=self._without_owners,
        )

    def _create(self, sql: str) -> None:
        self._client.ask(sql.strip() or f"CREATE DATABASE {self._quoted} TEMPLATE template0")

    def _applied(self, sql: str) -> list[Problem]:
        argv = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=0", "--output=/dev/null"]
        argv.append(f"--dbname={of_database(self._client.entrance())}")
        lines = self._client.complaints(argv, stdin=sql.encode("utf-8", "surrogateescape"))
        return [
            Problem(0, f"DATABASE {self._name}", told(line.partition("ERROR:")[2]))
            for line in lines
            if "ERROR:" in line
        ]

    def _is_read_only(self) -> bool:
        return self._client.ask("SHOW default_transaction_read_only", self._name) == [["on"]]

    def _again(self, failed: Sequence[Problem]) -> list[Problem]:
        """Try entries that failed once more, with the search path that the database's own users have, as long as it helps.

        pg_restore has none: a function without one fails in a materialized view, an index or a constraint.
        """
        left = list(failed)
        while left and len(left) <= RETRIES_MAX:
            still = [problem for problem in left if not self._loaded(problem)]
            if len(still) == len(left):
                break
            left = still
        return left

    def _loaded(self, problem: Problem) -> bool:
        if not problem.number:
            return False
        rows = self._client.here(["pg_restore", "--list", "--", str(self._dump)]).decode("utf-8", "surrogateescape")
        row = next((row for row in rows.splitlines() if row.startswith(f"{problem.number}; ")), "")
        chosen, script = self._dump.with_name("again.list"), self._dump.with_name("again.sql")
        chosen.write_text(row + "\n", "utf-8", "surrogateescape")
        argv = ["pg_restore", *self._options, f"--use-list={chosen}", f"--file={script}", "--", str(self._dump)]
        try:
            self._client.here(argv)
            _reset_search_path(script)
            words = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"]
            words += ["--output=/dev/null", f"--dbname={of_database(self._name)}"]
            code, _ = self._client.fed(words, script, WRITABLE)
        finally:
            script.unlink(missing_ok=True)
        return code == 0


def _reset_search_path(script: Path) -> None:
    """Overwrite the statement in place: the script may be as long as the table that is loaded."""
    with script.open("r+b") as file:
        at = file.read(_HEAD_BYTES).find(_EMPTY_PATH)
        if at >= 0:
            file.seek(at)
            file.write(b"RESET search_path;".ljust(len(_EMPTY_PATH)))
