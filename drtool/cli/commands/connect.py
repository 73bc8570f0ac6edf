"""`connect`: attach this host to an existing repository, given one of its targets and the password."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from drtool.cli.core.call import Call, targets_of
from drtool.cli.core.config_file import Chosen, Place, config_text, lacking, stale_words, warn_if_unusable, write_config
from drtool.cli.core.options import Options
from drtool.cli.core.selection import SHORT_ID, snapshot_row
from drtool.cli.core.settings import CONFIG_NAME, find_config, named_config
from drtool.cli.core.text import Document, document_of, local
from drtool.cli.core.view import Cell, Line, Table, View, line, table, view
from drtool.config import load_config
from drtool.config.schema import place_at
from drtool.config.urls import NO_ACCESS, Access
from drtool.errors import NoQuorum, NoRepository, ObjectMissing, Refused
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.model import RepositoryId, TargetName
    from drtool.operations.connecting import Connected, ReachedTarget
    from drtool.repository import Repository, TargetSpec
    from drtool.repository.known_targets import Place as KnownPlace


def connect(
    context: typer.Context,
    urls: Annotated[
        list[str], typer.Argument(metavar="URL…", help="Connect from this target, a place that holds drtool.json.")
    ],
    write_config: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the configuration to this file (default: ./drtool.yaml).")
    ] = None,
) -> None:
    """Attach this host to an existing repository.

    Any surviving target and the password are enough. The command reads the list of sites there, tries each of them,
    and shows what is stored and how to restore it. It writes the configuration to --write-config, --config,
    $DRTOOL_CONFIG or ./drtool.yaml, and never changes an existing one. Without a quorum of the sites, it shows what
    the reachable ones have and marks it as tentative. Several URLs may be given. The command reports those that do
    not answer and uses the others.

    Examples:
        drtool connect /mnt/nas/drtool
        drtool connect s3://acme-dr/drtool sftp://backup@attic/srv/drtool
        drtool connect file:///media/usb/drtool --password-file password --write-config /etc/drtool/drtool.yaml
    """
    from drtool.operations.connecting import what_is_there
    from drtool.repository.joining import repositories_at, targets_at
    from drtool.repository.known_targets import remember
    from drtool.repository.overlays import Overlays

    call: Call = context.obj
    path = _path(call, write_config)
    joined = targets_at(
        [place_at(url, call.settings.directory) for url in urls], overlays=Overlays(call.settings.state_dir)
    )
    for url, why in joined.silent:
        call.emit(Warned(message=f"{url}: {why}; continuing with the other places"))
    known = _known_targets(path)
    there = repositories_at(known)
    if (there and joined.repository not in there) or _is_of_another(call, known, joined.repository):
        raise _another(path, joined.targets[0].url)
    with _opened(call, joined.targets) as repository:
        targets = [_recognised(repository, target) for target in joined.targets]
        found = what_is_there(repository)
        uncertain = repository.uncertain is not None
        if known and not there and not _is_same(call, path, repository, known):
            raise _another(path, joined.targets[0].url)
        stale = lacking(repository, known, str(path)) if known else None
        ours = [place for place in _places_of(known) if place[0] in repository.target_rows()]
        remember(repository.spec, repository.id, repository.view, repository.targets, ours)
    if path.exists() and not known:
        path = _beside(call, path)
    written = _write(call, path, found, targets)
    if stale is not None and (words := stale_words(stale)):
        whole = shlex.join(("drtool", "connect", *urls, "--write-config", f"{path}.new"))
        call.emit(Warned(message=f"{words}; `{whole}` writes a complete one"))
    document = document_of(found)
    document["newest"] = [snapshot_row(row) for row in found.newest]
    document |= {"config": str(path), "written": written, "configuration": stale}
    document |= {"restore": None, "restores": []}
    if found.newest and found.holds_copies:
        document["restores"] = _restores(call, path, found, written=written, uncertain=uncertain)
        document["restore"] = document["restores"][0]["command"]
    elif found.newest:
        call.emit(
            Warned(message="only arbiters were reached, and they hold no copies: connect a site that stores data")
        )
    call.show(document, connect_view(document, uncertain=uncertain))


def _opened(call: Call, targets: "tuple[TargetSpec, ...]") -> "Repository":
    try:
        return call.open(replace(call.spec(targets), anyhow=True, anywhere=True))
    except NoRepository:  # the marker is there, so the register is missing
        (first, *_), several = targets, len(targets) > 1
        raise NoQuorum(
            "these places hold copies but no catalogue, because their sites do not vote"
            if several
            else f"{first.name} at {first.url} holds copies but no catalogue, because its site does not vote",
            hint="connect from a target of a site that votes",
        ) from None
    except ObjectMissing as error:  # no other site is known before the catalogue is read
        where = " and ".join(target.url for target in targets)
        raise ObjectMissing(
            f"the catalogue at {where} is damaged: {error.message}",
            hint="add the URL of a target of another site: drtool connect URL URL; then `drtool repair` fixes the "
            "damaged one",
        ) from None
    except NoQuorum as error:
        if "--manifest-from" not in (error.hint or ""):
            raise
        raise NoQuorum(error.message, hint="connect from a target of one of these sites") from None


def _recognised(repository: "Repository", target: "TargetSpec") -> "TargetSpec":
    """Return the target under its real name, if its marker did not give the name."""
    return next((spec for spec in repository.targets.specs.values() if spec.url == target.url), target)


def _path(call: Call, write_config: str | None) -> Path:
    """Return the path of the configuration, whether or not it exists yet."""
    settings = call.settings
    if write_config is not None:
        return (settings.directory / write_config).absolute()
    named = named_config(call.options, os.environ, settings.directory)
    return (settings.config_path or named or settings.directory / CONFIG_NAME).absolute()


def _known_targets(path: Path) -> "tuple[TargetSpec, ...]":
    return targets_of(load_config(path), path.parent) if path.exists() else ()


def _another(path: Path, url: str) -> Refused:
    return Refused(
        f"{path} is the configuration of a different repository than the one at {url}; nothing was changed",
        hint="name another file with --write-config FILE, and use it with --config FILE",
    )


def _beside(call: Call, path: Path) -> Path:
    """Return the path for a complete configuration beside one that names no sites, and warn."""
    whole = Path(f"{path}.new")
    call.emit(
        Warned(
            message=f"{path} exists and is not changed; add the repository's sites to it under `sites:`, as in {whole}"
        )
    )
    return whole


def _write(call: Call, path: Path, found: "Connected", targets: "Sequence[TargetSpec]") -> bool:
    """Write the configuration unless there is one. Return whether it was written."""
    joined = {target.name: target.access for target in targets}
    if path.exists():
        return False
    password_file = call.options.password_file or os.environ.get("DRTOOL_PASSWORD_FILE")
    chosen = Chosen(
        label=found.label,
        places=tuple(_place(row, joined) for site in found.sites for row in site.targets),
        copies=found.copies,
        password_file=str(Path(password_file).absolute()) if password_file else None,
        use_password_file=password_file is not None,
    )
    write_config(path, config_text(chosen))
    warn_if_unusable(call, path)
    return True


def _place(row: "ReachedTarget", joined: "Mapping[TargetName, Access]") -> Place:
    where = f" (a directory of {row.host})" if row.host and row.host != os.uname().nodename else ""
    return Place(
        name=str(row.name),
        url=row.url,
        access=joined.get(row.name, NO_ACCESS),
        weight=max(1, row.weight),
        keys=row.keys,
        vote="only" if row.votes_only else "auto",
        comment="" if row.reachable else f"not reached when this was written{where}: {row.problem}",
    )


def _is_of_another(call: Call, known: "tuple[TargetSpec, ...]", repository_id: "RepositoryId") -> bool:
    """Return whether this host has reached another repository at the places that the configuration names."""
    from drtool.repository.known_targets import repository_at

    before = repository_at(call.settings.state_dir, known)
    return before is not None and before.repository_id != repository_id


def _is_same(call: Call, path: Path, repository: "Repository", known: "tuple[TargetSpec, ...]") -> bool:
    """Return whether a configuration with no answering place is an older one of this repository.

    It is one if this host or the catalogue has a record of one of its places, or if its label and all its targets
    match the repository.
    """
    from drtool.repository.known_targets import recall

    before = recall(call.settings.state_dir, repository.id)
    if before is not None and before.places() & set(_places_of(known)):
        return True
    same_label = load_config(path).repository == repository.view.state.label
    return same_label and {row.name for row in known} <= repository.target_rows().keys()


def _places_of(known: "tuple[TargetSpec, ...]") -> "list[KnownPlace]":
    from drtool.repository.places import full_url

    return [(row.name, full_url(row.url)) for row in known]


def _restores(call: Call, path: Path, found: "Connected", *, written: bool, uncertain: bool) -> list[Document]:
    """Return, for each host, the command line that restores all its data. This host comes first, then the newest."""
    from drtool.operations.all_sources import restore_words

    words = ["drtool"]
    if find_config(Options(), os.environ, call.settings.directory) != path:
        words += ["--config", str(path)]
    if call.options.password_file and not written:
        words += ["--password-file", call.options.password_file]
    rest = ["--manifest-from", "any"] if uncertain else []
    hosts = list(dict.fromkeys(row.host for row in reversed(found.newest)))
    hosts.sort(key=lambda host: host != call.settings.host)
    return [{"host": host, "command": shlex.join([*words, *restore_words(host, hosts), *rest])} for host in hosts]


def connect_view(document: Document, *, uncertain: bool) -> View:
    quorum = document["quorum"]
    parts: list[Line | Table] = [
        line(
            Cell("connected ", "good"),
            f"to repository {document['repository_id']} ({document['label']}), change {document['sequence']}",
        ),
        _places(document),
        line(
            Cell("quorum: ", "strong"),
            Cell(
                f"{quorum['reachable']} of {sum(site['votes'] for site in document['sites'])} voters reachable, "
                f"{quorum['needed']} needed{'; the view is tentative' if uncertain else ''}",
                "bad" if uncertain else "good",
            ),
        ),
    ]
    rows = [
        (
            Cell(row["id"][:SHORT_ID], "strong"),
            local(row["time"]),
            row["host"],
            row["source"] or "-",
            " ".join(row["paths"]),
        )
        for row in document["newest"]
    ]
    parts += [table("NEWEST TIME HOST SOURCE PATHS", rows)] if rows else [line("no snapshots yet")]
    parts.append(line(f"{'wrote' if document['written'] else 'kept'} {document['config']}"))
    if away := [row["name"] for site in document["sites"] for row in site["targets"] if not row["reachable"]]:
        parts.append(line(Cell("not reached: ", "warn"), _elsewhere(away, document["config"])))
    for row in document["restores"]:
        of_which = f"to restore {row['host']}: " if len(document["restores"]) > 1 else "to restore: "
        parts.append(line(Cell(of_which, "strong"), row["command"]))
    return view(*parts)


def _elsewhere(away: list[str], config: str) -> str:
    return (
        f"{', '.join(away)}; data without a copy elsewhere cannot be restored. If a target has moved, "
        f"correct its url in {config}"
    )


def _places(document: Document) -> Table:
    rows = [
        (
            Cell(row["name"], "strong"),
            Cell("reached", "good") if row["reachable"] else Cell("not reached", "bad"),
            ("only" if row["votes_only"] else "yes") if site["votes"] else "no",
            row["url"] + ("" if row["reachable"] else f" ({row['problem']})"),
        )
        for site in document["sites"]
        for row in site["targets"]
    ]
    return table("TARGET STATE VOTES URL", rows)
