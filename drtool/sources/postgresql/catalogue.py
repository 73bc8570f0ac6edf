"""What the catalogue of a PostgreSQL database says that there is: the record that a dump and a restore are held against.

Invariants
    Nothing here comes from pg_dump, except in `lacking`, which compares a dump with the record.
    Objects that the server or an extension brings with it are no objects of the database.
"""

import re
from collections import Counter
from collections.abc import Mapping

from drtool.sources.postgresql.client import Session
from drtool.sources.postgresql.looking import shown

Objects = dict[str, dict[str, str]]
MARK = "drtool_unfinished_restore"
"""The schema in a database that a restore has not finished: see `unfinished`."""
# objects with a smaller number were made by initdb
_OWN = (
    "x.oid >= 16384 AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' "
    "AND e.classid = '{table}'::regclass AND e.objid = x.oid)"
)
_OF_USERS = "s.nspname !~ '^pg_(toast|temp|catalog)' AND s.nspname <> 'information_schema'"


def _rights(column: str, kind: str, owner: str) -> str:
    """SQL for the rights on an object, sorted; those that come by default are spelled out."""
    acl = f"coalesce({column}, pg_catalog.acldefault('{kind}', {owner}))"
    return f"(SELECT coalesce(string_agg(a::text, ',' ORDER BY a::text COLLATE \"C\"), '') FROM unnest({acl}) a)"  # noqa: S608 - constants


def _described(owner: str, rights: str = "''") -> str:
    return f"quote_ident(pg_catalog.pg_get_userbyid({owner})) || ' ' || {rights}"


_RELATION = (
    "CASE x.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' "
    "WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END"
)
_ROUTINE = "CASE x.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END"
_ARGUMENTS = "'(' || pg_catalog.pg_get_function_identity_arguments(x.oid) || ')'"


class _Kind:
    """One catalogue table: how its rows are named, described and narrowed."""

    def __init__(
        self,
        table: str,
        kind: str,
        name: str,
        described: str,
        *,
        schema: str = "",
        join: str = "",
        where: str = "true",
    ) -> None:
        joined = f"JOIN pg_catalog.pg_namespace s ON s.oid = x.{schema} " if schema else ""
        named = f"s.nspname || '.' || {name}" if schema else name
        narrowed = f"AND {_OF_USERS}" if schema else ""
        self.sql = (
            f"SELECT {kind}, {named}, coalesce({described}, '') FROM pg_catalog.{table} x {joined}{join} "  # noqa: S608 - constants
            f"WHERE {_OWN.format(table=f'pg_catalog.{table}')} {narrowed} AND {where}"
        )


_ON_TABLE = "JOIN pg_catalog.pg_class c ON c.oid = x.{column} JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace"
_RELATIONS_ONLY = (
    "NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid = {column} "  # noqa: S608 - constants
    f"AND e.classid = 'pg_catalog.pg_class'::regclass) AND {_OF_USERS}"
)
_VALID = "((i.indisvalid OR t.relkind = 'p') AND i.indisready)"
"""An index that CREATE INDEX CONCURRENTLY did not finish is none: no query uses it, and pg_dump leaves it out."""
_INVALID = (
    "SELECT format('%I.%I', s.nspname, x.relname) FROM pg_catalog.pg_index i "  # noqa: S608 - constants
    "JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid "
    f"JOIN pg_catalog.pg_namespace s ON s.oid = x.relnamespace WHERE NOT {_VALID} AND {_OF_USERS} ORDER BY 1"
)
_TABLE_RIGHTS, _SEQUENCE_RIGHTS = (_rights("x.relacl", kind, "x.relowner") for kind in ("r", "s"))
_KINDS = (
    _Kind("pg_namespace", "'SCHEMA'", "x.nspname", _described("x.nspowner", _rights("x.nspacl", "n", "x.nspowner")),
          where=f"x.nspname !~ '^pg_(toast|temp)' AND x.nspname <> '{MARK}'"),
    _Kind("pg_class", _RELATION, "x.relname",
          _described("x.relowner", f"CASE x.relkind WHEN 'S' THEN {_SEQUENCE_RIGHTS} ELSE {_TABLE_RIGHTS} END"),
          schema="relnamespace", where="x.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND x.relpersistence <> 't'"),
    _Kind("pg_class", "'INDEX'", "x.relname", _described("x.relowner"), schema="relnamespace",
          join="JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid",
          where=f"x.relkind IN ('i', 'I') AND {_VALID} AND " + _RELATIONS_ONLY.format(column="i.indrelid")),
    _Kind("pg_proc", _ROUTINE, f"x.proname || {_ARGUMENTS}",
          _described("x.proowner", _rights("x.proacl", "f", "x.proowner")), schema="pronamespace"),
    _Kind("pg_type", "CASE x.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END", "x.typname",
          _described("x.typowner", _rights("x.typacl", "T", "x.typowner")), schema="typnamespace",
          join="LEFT JOIN pg_catalog.pg_class c ON c.oid = x.typrelid",
          where="(x.typtype IN ('d', 'e', 'r') OR x.typtype = 'c' AND c.relkind = 'c' OR x.typtype = 'b' AND x.typelem = 0) "
                "AND x.typisdefined"),
    _Kind("pg_constraint", "CASE x.contype WHEN 'f' THEN 'FK CONSTRAINT' ELSE 'CONSTRAINT' END",
          "s.nspname || '.' || c.relname || ' ' || x.conname", "''", join=_ON_TABLE.format(column="conrelid"),
          where="x.contype IN ('p', 'u', 'f', 'x') AND x.conparentid = 0 AND " + _RELATIONS_ONLY.format(column="x.conrelid")),
    _Kind("pg_trigger", "'TRIGGER'", "s.nspname || '.' || c.relname || ' ' || x.tgname", "x.tgenabled::text",
          join=_ON_TABLE.format(column="tgrelid"),
          where="NOT x.tgisinternal AND x.tgparentid = 0 AND " + _RELATIONS_ONLY.format(column="x.tgrelid")),
    _Kind("pg_rewrite", "'RULE'", "s.nspname || '.' || c.relname || ' ' || x.rulename", "x.ev_enabled::text",
          join=_ON_TABLE.format(column="ev_class"),
          where="x.rulename <> '_RETURN' AND " + _RELATIONS_ONLY.format(column="x.ev_class")),
    _Kind("pg_policy", "'POLICY'", "s.nspname || '.' || c.relname || ' ' || x.polname", "''",
          join=_ON_TABLE.format(column="polrelid"), where=_RELATIONS_ONLY.format(column="x.polrelid")),
    _Kind("pg_extension", "'EXTENSION'", "x.extname", "x.extversion"),
    _Kind("pg_event_trigger", "'EVENT TRIGGER'", "x.evtname", f"{_described('x.evtowner')} || x.evtenabled::text"),
    _Kind("pg_publication", "'PUBLICATION'", "x.pubname", _described("x.pubowner")),
    _Kind("pg_foreign_data_wrapper", "'FOREIGN DATA WRAPPER'", "x.fdwname",
          _described("x.fdwowner", _rights("x.fdwacl", "F", "x.fdwowner"))),
    _Kind("pg_foreign_server", "'SERVER'", "x.srvname", _described("x.srvowner", _rights("x.srvacl", "S", "x.srvowner"))),
    _Kind("pg_statistic_ext", "'STATISTICS'", "x.stxname", _described("x.stxowner"), schema="stxnamespace"),
    _Kind("pg_collation", "'COLLATION'", "x.collname", _described("x.collowner"), schema="collnamespace"),
    _Kind("pg_conversion", "'CONVERSION'", "x.conname", _described("x.conowner"), schema="connamespace"),
    _Kind("pg_ts_config", "'TEXT SEARCH CONFIGURATION'", "x.cfgname", _described("x.cfgowner"), schema="cfgnamespace"),
    _Kind("pg_ts_dict", "'TEXT SEARCH DICTIONARY'", "x.dictname", _described("x.dictowner"), schema="dictnamespace"),
    _Kind("pg_language", "'PROCEDURAL LANGUAGE'", "x.lanname",
          _described("x.lanowner", _rights("x.lanacl", "l", "x.lanowner"))),
)  # fmt: skip
_SUBSCRIPTIONS = (
    "SELECT 'SUBSCRIPTION', subname, quote_ident(pg_catalog.pg_get_userbyid(subowner)) || ' ' FROM pg_catalog.pg_subscription "
    "WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
)
_BLOBS = "SELECT 'BLOBS', 'large objects', count(*)::text FROM pg_catalog.pg_largeobject_metadata HAVING count(*) > 0"
_SETTINGS = (
    "SELECT string_agg(coalesce(pg_catalog.pg_get_userbyid(nullif(setrole, 0)) || ': ', '') || option, E'\\n' "
    'ORDER BY setrole <> 0, option COLLATE "C") '
    "FROM pg_catalog.pg_db_role_setting, unnest(setconfig) option WHERE setdatabase = d.oid"
)
_PROPERTIES = (
    "SELECT quote_ident(pg_catalog.pg_get_userbyid(datdba)), "  # noqa: S608 - constants
    f"{_rights('datacl', 'd', 'datdba')}, coalesce(({_SETTINGS}), ''), "
    "coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''), pg_catalog.pg_encoding_to_char(encoding), "
    "datcollate, datctype, datconnlimit::text, datistemplate::text FROM pg_catalog.pg_database d "
    "WHERE datname = current_database()"
)
_NAMES = (
    "owner",
    "rights",
    "settings",
    "comment",
    "encoding",
    "collation",
    "character type",
    "connections",
    "template",
)
_ROLES = (
    "SELECT rolname, concat_ws(' ', CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolcreaterole THEN 'createrole' END, "
    "CASE WHEN rolcreatedb THEN 'createdb' END, CASE WHEN rolcanlogin THEN 'login' END, "
    "CASE WHEN rolreplication THEN 'replication' END, CASE WHEN rolbypassrls THEN 'bypassrls' END, "
    "(SELECT 'member of ' || string_agg(g.rolname || CASE WHEN m.admin_option THEN ' (admin)' ELSE '' END, ', ' "
    'ORDER BY g.rolname COLLATE "C") FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid '
    "WHERE m.member = r.oid)) FROM pg_catalog.pg_roles r WHERE oid >= 16384 ORDER BY 1"
)
_ENTRY = re.compile(r"^-- (?:Data for )?Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: .*$", re.MULTILINE)


def objects(session: Session) -> Objects:
    """Return the objects of the session's database, by kind and name, with their owners and rights."""
    found: Objects = {}
    for sql in (*(kind.sql for kind in _KINDS), _SUBSCRIPTIONS, _BLOBS):
        for kind, name, described in session.ask(sql):
            found.setdefault(kind, {})[shown(name)] = shown(described)
    return {kind: dict(sorted(found[kind].items())) for kind in sorted(found)}


def properties(session: Session) -> dict[str, str]:
    """Return what is set for the session's database as a whole."""
    return dict(zip(_NAMES, map(shown, session.ask(_PROPERTIES)[0]), strict=True))


def invalid_indexes(session: Session) -> list[str]:
    """Return the indexes that were never finished; quoted."""
    return [shown(row[0]) for row in session.ask(_INVALID)]


def hidden_mappings(session: Session) -> int:
    """Return how many user mappings show no options, as if they had none: they may hold passwords."""
    return int(session.ask("SELECT count(*) FROM pg_catalog.pg_user_mappings WHERE umoptions IS NULL")[0][0])


def roles(session: Session) -> dict[str, str]:
    """Return the server's roles with their attributes and memberships; not those that initdb made."""
    return {shown(name): shown(described) for name, described in session.ask(_ROLES)}


_OWNER = re.compile(r'"(?:[^"]|"")+"|[^ ]*', re.DOTALL)
_OWNERLESS = ("CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "POLICY", "EXTENSION", "BLOBS")


def owners(recorded: Objects | None, properties: Mapping[str, str] | None) -> set[str]:
    """Return the roles that own something in a database; quoted."""
    found = {properties["owner"]} if properties else set()
    for kind, names in (recorded or {}).items():
        if kind not in _OWNERLESS:
            found |= {_OWNER.match(described)[0] for described in names.values()}  # type: ignore[index]
    return found


def lacking(recorded: Mapping[str, Mapping[str, str]], schema: str) -> list[str]:
    """Return the objects that are recorded and that a schema dump, `schema`, does not define."""
    entries = [(kind, shown(name)) for kind, name in _entries(schema)]
    dumped = Counter(entries)
    routines = Counter((kind, name.partition("(")[0]) for kind, name in entries)
    own = {_index_of(name) for name in recorded.get("CONSTRAINT", {})}
    lost = []
    for kind, names in recorded.items():
        for name in names:
            if kind == "BLOBS" or (kind == "INDEX" and name in own):
                continue
            key = (kind, _one_line(name).partition("(")[0] if kind in _SIGNED else _one_line(name))
            left = routines if kind in _SIGNED else dumped
            if left[key] < 1:
                lost.append(f"the dump lacks {kind.lower()} {name}: pg_dump left it out")
            left[key] -= 1
    return lost


_SIGNED = ("FUNCTION", "PROCEDURE", "AGGREGATE")
_OF_SCHEMA = (
    *(
        "TABLE",
        "VIEW",
        "MATERIALIZED VIEW",
        "SEQUENCE",
        "FOREIGN TABLE",
        "INDEX",
        "TYPE",
        "DOMAIN",
        "STATISTICS",
        "COLLATION",
    ),
    *("CONVERSION", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TRIGGER", "RULE", "POLICY", "CONSTRAINT"),
    *("FK CONSTRAINT", *_SIGNED),
)


def _entries(schema: str) -> list[tuple[str, str]]:
    """Return (kind, name) of each entry of a dump; names as `objects` has them."""
    found = []
    for name, kind, where in _ENTRY.findall(schema):
        known = "FUNCTION" if kind == "WINDOW FUNCTION" else "TYPE" if kind == "SHELL TYPE" else kind
        found.append((known, f"{where}.{name}" if known in _OF_SCHEMA else name))
    return found


def _one_line(name: str) -> str:
    """pg_dump writes names into remarks without line ends."""
    return re.sub(r"[\r\n]", " ", name)


def _index_of(constraint: str) -> str:
    """Return the index that comes with a constraint: `public.orders orders_pkey` → `public.orders_pkey`."""
    table, _, name = constraint.rpartition(" ")
    return f"{table.partition('.')[0]}.{name}"
