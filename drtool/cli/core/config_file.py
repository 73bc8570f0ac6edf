"""The configuration file: the text that `init` and `connect` write, and its differences from the catalogue."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import asdict

from drtool.cli.core.settings import CONFIG_NAME, named_config
from drtool.cli.core.text import Document
from drtool.cli.core.trust import check_config, trust_of
from drtool.config import load_config
from drtool.config.urls import NO_ACCESS, Access
from drtool.errors import ConfigError
from drtool.escaping import printable
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.repository import Repository, TargetSpec

_EXAMPLES = """\
# The sources of this host. Each becomes a snapshot of its own. Patterns are those of gitignore.
# sources:
#   home:
#     paths: [/home, /srv]
#     exclude: ["*.tmp", ".cache/"]
#     exclude_caches: true
#     exclude_larger_than: 20GiB
#     ignore_files: true        # apply .drtoolignore files
#     one_file_system: true
#     ignore_inode: true        # for file systems with unstable inode numbers (FUSE, some network shares)
#   orders: {postgresql: {dsn: "service=orders"}}           # every database, and the roles
#   shop:   {mysql: {dsn: "mysql://backup@localhost/"}}     # MariaDB, too
#   app:    {sqlite: {path: /srv/app/app.db}}               # while it is in use
#   cache:  {redis: {dsn: "redis://localhost:6379"}}
#   ldap:   {stream: {command: [slapcat, -n, "1"], name: ldap.ldif}}  # the output of a command

# The snapshots of each source that `drtool forget` keeps.
# retention: {keep_last: 3, keep_daily: 7, keep_weekly: 5, keep_monthly: 12}

# The times for `drtool schedule install`, and the objectives that `drtool status` checks.
# schedule: {backup: daily 01:00, prune: daily 02:30, verify: weekly sun 03:00, status: daily 06:45, jitter: 30m}
# objectives: {home: {rpo: 26h, copies: 2, proven: 35d}}

# Commands around backup, verify and prune, as lists of words without a shell. URLs are pinged.
# hooks:
#   before_backup: [mount, /mnt/nas]
#   after_backup: [[umount, /mnt/nas], "https://hc-ping.com/…"]
#   on_failure: ["https://hc-ping.com/…/fail"]
# metrics_file: /var/lib/prometheus/node-exporter/drtool.prom

# limits:
#   workers: auto          # processes; auto is one for each core
#   memory: 256MiB
#   upload: 20MiB/s        # to each target, for all workers together
#   download: 50MiB/s
"""


class Place(Struct, frozen=True, kw_only=True):
    """One target: `site/name` and how this host reaches it."""

    name: str
    url: str
    access: Access = NO_ACCESS
    weight: int = 1
    keys: bool = True
    vote: str = "auto"
    comment: str = ""


class Chosen(Struct, frozen=True, kw_only=True):
    """The decisions of `init`, or the findings of `connect`."""

    label: str
    places: tuple[Place, ...]
    copies: int
    password_file: str | None
    use_password_file: bool = False


def config_text(chosen: Chosen) -> str:
    """Return a drtool.yaml. JSON's quoting is valid YAML, so any path survives."""
    lines = [
        "# The configuration of drtool: how this host reaches the repository, and what it backs up.",
        "# It holds no secrets. Keep a copy, and the password, where the loss of a site cannot reach them.",
        "",
        f"repository: {_quoted(chosen.label)}",
        "",
        "# The file with the password. password_command is the alternative.",
        f"{'' if chosen.use_password_file else '# '}password_file: {_quoted(chosen.password_file or '/etc/drtool/password')}",
        "",
        "sites:                     # a site is a place that can fail as a whole",
    ]
    site = ""
    for place in sorted(chosen.places, key=lambda place: place.name):
        here, _, name = place.name.partition("/")
        lines += [f"  {_quoted(here)}:"] if here != site else []
        lines.append(f"    {_quoted(name)}: {{{_keys_of(place)}}}{_remark(place)}")
        site = here
    lines += ["", f"redundancy: {{copies: {chosen.copies}}}", "", _EXAMPLES]
    return "\n".join(lines)


def target_text(place: Place) -> str:
    """Return a target's entry under `sites:` in one line: `office: {main: {url: "file:///mnt/office"}}`."""
    site, _, name = place.name.partition("/")
    return f"{_quoted(site)}: {{{_quoted(name)}: {{{_keys_of(place)}}}}}"


def _keys_of(place: Place) -> str:
    """Return a target's URL and its differences from the defaults."""
    pairs = [f"url: {_quoted(place.url)}"]
    pairs += [f"{key}: {_quoted(value)}" for key, value in asdict(place.access).items() if value is not None]
    pairs += [f"weight: {place.weight}"] if place.weight != 1 else []
    pairs += ["keys: false"] if not place.keys else []
    pairs += [f"vote: {place.vote}"] if place.vote != "auto" else []
    return ", ".join(pairs)


def _remark(place: Place) -> str:
    """Return a comment as one line, with its special characters escaped."""
    words = printable(" ".join(place.comment.split()))
    return f"  # {words}" if words else ""


def _quoted(text: str) -> str:
    """Return plain text where YAML cannot misread it, otherwise double quotes."""
    plain = (
        text.isascii() and text.replace("-", "").replace("_", "").isalpha() and text not in ("true", "false", "null")
    )
    return text if plain else json.dumps(text)


def write_config(path: Path, text: str) -> None:
    """Write and read back under another name, then link into place.

    The file is never half written, and never replaces another.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        load_config(draft)
        os.link(draft, path)
    except FileExistsError:
        raise ConfigError(f"{path} appeared meanwhile and was not touched; everything else was done") from None
    finally:
        draft.unlink(missing_ok=True)


def tell_stale(call: "Call", repository: "Repository") -> Document:
    """Report the edits that the configuration needs, and return them for the document. No command edits it."""
    path = call.check_configured()
    document = lacking(repository, call.configured_targets(), str(path))
    words = stale_words(document)
    if words:
        advice = "do the same on other hosts, and print the recovery kit again: drtool key kit"
        call.emit(Warned(message=f"{words}; {advice}"))
    return document


def lacking(repository: "Repository", configured: "Iterable[TargetSpec]", file: str) -> Document:
    """Return the lines to add under `sites:` of a configuration, and the targets to remove from it."""
    from drtool.repository.places import full_url

    named = {spec.name: full_url(spec.url) for spec in configured}
    rows = {name: row for name, row in repository.target_rows().items() if row.state != "lost"}
    add = []
    for name, row in sorted(rows.items()):
        reached = repository.targets.reachable(name)
        spec = repository.targets.specs.get(name)
        url = full_url(spec.url if reached and spec is not None else row.url)
        if named.get(name) != url and (name not in named or reached):
            place = Place(
                name=str(name),
                url=url,
                access=spec.access if reached and spec is not None else NO_ACCESS,
                weight=max(1, row.weight),
                keys=row.keys,
                vote="only" if row.votes_only else "auto",
            )
            add.append({"name": str(name), "url": url, "line": target_text(place)})
    return {"file": file, "add": add, "remove": sorted(str(name) for name in named.keys() - rows.keys())}


def stale_words(document: Document) -> str:
    """Return the necessary edits in one sentence, or "" if there are none."""
    lines = ", ".join(f"`{row['line']}`" for row in document["add"])
    parts = [f"add {lines} under `sites:`"] if lines else []
    parts += [f"remove {', '.join(document['remove'])}"] if document["remove"] else []
    return f"edit {document['file']}: {', '.join(parts)}" if parts else ""


def warn_if_unusable(call: "Call", path: Path) -> None:
    """Warn if a new configuration would be refused because another user may change its directory, as under `sudo`."""
    if path == call.settings.directory / CONFIG_NAME and path != named_config(
        call.options, os.environ, call.settings.directory
    ):
        try:
            check_config(path, trust_of(named=False))
        except ConfigError as error:
            call.emit(Warned(message=f"{error.message}; {error.hint}"))
