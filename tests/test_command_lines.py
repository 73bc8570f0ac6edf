"""Names from outside are never options: the text of every command line in the code base is checked.

A value that is not a constant stands after `--`, after the option that takes it, or behind a constant beginning (`--user=…`).
Each place that starts a program is listed here, so that a new one is reviewed when it is added.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import drtool

TOP = Path(drtool.__file__).parent
STARTERS = {
    "Popen", "Tethered", "execvp", "execvpe", "posix_spawn", "system", "check_output", "check_call", "create_subprocess_exec",
    "create_subprocess_shell", "run_program", "started", "_started", "piped", "fed", "complaints", "drtool",
}  # fmt: skip
KNOWN = {
    "cli/commands/schedule/timers.py": "systemctl with the names of our own units, which begin with drtool-",
    "cli/core/passwords.py": "the password command of the user",
    "operations/scheduling/files.py": "crontab -l and crontab -",
    "operations/scheduling/daemons.py": "systemctl with the name of a timer of ours, behind --",
    "plans/actions/backing_up.py": "drtool backup: every value follows its option",
    "plans/actions/comparing.py": "drtool restore: the snapshot stands after --",
    "plans/actions/comparing_databases.py": "drtool restore: the snapshot stands after --",
    "plans/actions/nesting.py": "drtool plan run: the file stands after --",
    "plans/actions/programs.py": "the way to all programs of a plan",
    "plans/actions/rebalancing.py": "drtool rebalance with numbers",
    "plans/actions/repairing.py": "drtool repair: every value follows its option",
    "plans/actions/restoring.py": "drtool restore: the snapshot stands after --",
    "plans/actions/verifying.py": "drtool verify: every value follows its option",
    "plans/channels.py": "the command of a channel, from the user",
    "plans/hooks.py": "the command of a hook, from the user",
    "plans/running/children.py": "drtool itself",
    "plans/running/secrets.py": "the command of a secret, from the user",
    "sources/children.py": "the way to all programs of a source",
    "sources/guarded.py": "the guard's shell, whose script is constant",
    "sources/mysql/accounts.py": "mariadb-dump and mariadb, with constant options",
    "sources/mysql/client.py": "mariadb: every value is part of --option=value",
    "sources/mysql/engine.py": "mariadb-check and mariadb-dump: databases stand after --",
    "sources/mysql/loading.py": "mariadb, with constant options",
    "sources/mysql/reach.py": "mariadb-dump, as capture.py writes it: databases stand after --",
    "sources/mysql/session.py": "mariadb, with constant options",
    "sources/postgresql/capture.py": "pg_dump: the database is part of --dbname=",
    "sources/postgresql/client.py": "psql: the database is part of --dbname=",
    "sources/postgresql/loading.py": "pg_restore: the file stands after --; psql: the database is part of --dbname=",
    "sources/postgresql/roles.py": "psql: the database is part of --dbname=",
    "sources/postgresql/scratch_server.py": "initdb and postgres in our own directory",
    "sources/redis/client.py": "redis-cli: every value follows its option",
    "sources/redis/engine.py": "redis-check-rdb with an absolute path in our own directory",
    "sources/stream.py": "the command of a stream, from the user",
    "sources/system/questions.py": "questions to this host",
    "sources/tether.py": "the program itself, below the tether",
}
OURS = {
    ("operations/scheduling/files.py", "word"): "-l or -, which are options on purpose",
    ("sources/guarded.py", "str(self.directory)"): "an absolute path, and an argument of the constant script",
    ("sources/redis/engine.py", "str(dump)"): "an absolute path, and redis-check-rdb takes no --",
}


@cache
def trees() -> list[tuple[str, ast.Module]]:
    return [(str(path.relative_to(TOP)), ast.parse(path.read_text())) for path in sorted(TOP.rglob("*.py"))]


def starts_a_program(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in STARTERS
    if not isinstance(node.func, ast.Attribute):
        return False
    owner = node.func.value
    of = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return node.func.attr in STARTERS or (node.func.attr == "run" and of in {"children", "subprocess"})


def test_every_place_that_starts_a_program_is_known():
    found = {name for name, tree in trees() if any(map(starts_a_program, ast.walk(tree)))}
    assert found == set(KNOWN)


def safe(element: ast.expr, before: ast.expr | None) -> bool:
    """Whether a value in this place is no option, whatever it is."""
    match element:
        case ast.Constant():
            return True
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]) if text[:1] in ("-", "/"):
            return True
        case ast.Starred(value=ast.GeneratorExp(elt=elt, generators=[*_, last])):
            return unsafe(last.iter.elts) == [] if isinstance(last.iter, ast.Tuple) else safe(elt, before)
        case ast.Starred():
            return True  # a list that is checked where it is written
    return isinstance(before, ast.Constant) and str(before.value).startswith("-")


def unsafe(elements: list[ast.expr]) -> list[str]:
    """The values that could be taken for options."""
    for at, element in enumerate(elements):
        if isinstance(element, ast.Constant) and element.value == "--":
            return []
        if not safe(element, elements[at - 1] if at else None):
            return [ast.unparse(element)]
    return []


def command_lines(tree: ast.Module) -> Iterator[list[ast.expr]]:
    """Lists that begin with a constant, and the arguments of `words`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.List) and len(node.elts) > 1 and isinstance(node.elts[0], ast.Constant):
            yield node.elts
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "words":
            yield node.args


def test_no_value_on_a_command_line_can_be_taken_for_an_option():
    found = set()
    for name, tree in trees():
        if name in KNOWN or name.startswith(("sources/", "operations/scheduling/")):
            for line in command_lines(tree):
                found |= {(name, value) for value in unsafe(line)}
    assert found == set(OURS)
