"""`init`: create a repository and write its configuration."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from drtool.cli.core.call import targets_of
from drtool.cli.core.config_file import Chosen, Place, config_text, warn_if_unusable, write_config
from drtool.cli.core.passwords import given_password, new_password
from drtool.cli.core.settings import CONFIG_NAME, named_config
from drtool.cli.core.text import Document, count, document_of
from drtool.cli.core.view import Cell, View, line, table, view
from drtool.config.schema import check_name, place_at
from drtool.errors import ConfigError, DrtoolError, UsageError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.repository import TargetSpec

DEFAULT_SITES = ("one", "two", "three")
ARBITER = "arbiter"
TWO = 2


def init(
    context: typer.Context,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE[/NAME]=URL", help="Store copies at URL. A site is a place that can fail as a whole."
        ),
    ] = None,
    copies: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Store each pack at N sites (default 2).")
    ] = None,
    arbiter: Annotated[
        str | None,
        typer.Option(metavar="[SITE=]URL", help="Add a place that only votes. With two sites, one is added anyway."),
    ] = None,
    hide_sizes: Annotated[
        bool,
        typer.Option(
            "--hide-sizes/--show-sizes",
            help="Pad packs and chunk files with a secret key, to hide file sizes from sites.",
        ),
    ] = True,
    replace_known: Annotated[
        bool,
        typer.Option(
            "--replace-known",
            help="Create the repository even where this host has recorded one whose disk is not mounted.",
        ),
    ] = False,
) -> None:
    """Create a repository and its configuration.

    An existing configuration is not changed. Without --target, the configuration's sites are used. Without those,
    three directories below ~/.local/share/drtool are used as a demonstration, since one disk holds all of them.

    If this host has recorded a repository at a place and finds another directory there, such as the mount point of an
    unmounted disk, `init` refuses. A place is free again once its repository has been deleted.

    Two sites need a third vote, to keep writing when any one is lost. An arbiter provides it. It stores the catalogue
    and no packs. Without --arbiter, it is a directory on this host.

    Examples:
        drtool init --target paris=/mnt/nas --target attic=/mnt/usb --target garage=/mnt/old --copies 2
        drtool init --target office=/mnt/nas --target home=/mnt/usb --arbiter /mnt/router/drtool
        drtool --config /etc/drtool/drtool.yaml init --password-file /etc/drtool/password
    """
    from drtool.operations.survive.promise import promise_of_new
    from drtool.repository import found

    call: Call = context.obj
    settings = call.settings
    path = config_path(call)
    targets = with_arbiter(call, chosen_targets(call, target or []), arbiter)
    redundancy = settings.config.redundancy
    wanted = copies if copies is not None else redundancy.copies
    spec = replace(call.spec(targets), timezone=known_zone(call))
    password = given_password(call) if settings.password_given else new_password(call)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)  # with umask 0 others could replace the file
    spec = replace(spec, password=lambda: password)
    result = found(spec, wanted, redundancy.minimum, call.emit, hides_sizes=hide_sizes, replaces_known=replace_known)
    written = write_if_new(call, path, spec.label, targets, result.copies)
    document = document_of(replace(result, config=str(path)))
    promise = promise_of_new(targets, result.copies)
    document["restorable_with"] = document_of(promise)
    call.show(document, init_view(document, str(promise), written=written))


def known_zone(call: "Call") -> str:
    """Return the time zone for retention. It is UTC if this host's zone has no name that every host can resolve."""
    from drtool.operations.forget.plan import zone_of

    name = call.settings.timezone
    try:
        zone_of(name)
    except DrtoolError as error:
        if call.settings.config.retention.timezone is not None:
            raise ConfigError(
                f"retention.timezone: {name!r} is not a known time zone on this host", hint=error.hint
            ) from None
        call.emit(
            Warned(
                message=f"this host's time zone {name!r} has no standard name, so retention will use the days and weeks "
                "of UTC; set retention.timezone in the configuration to use another zone"
            )
        )
        return "UTC"
    return name


def config_path(call: "Call") -> Path:
    """Return the path where the configuration is or will be written: --config, $DRTOOL_CONFIG, or ./drtool.yaml."""
    settings = call.settings
    named = named_config(call.options, os.environ, settings.directory)
    return (settings.config_path or named or settings.directory / CONFIG_NAME).absolute()


def chosen_targets(call: "Call", words: Sequence[str]) -> "tuple[TargetSpec, ...]":
    """Return the command line's targets, or else the configuration's, or else the built-in default."""
    settings = call.settings
    if words:
        return parse_targets(words, settings.directory)
    if settings.config_path and settings.config.sites:
        return targets_of(settings.config, settings.config_path.parent)
    call.emit(
        Warned(
            message=f"no targets were given: three directories below {settings.data_dir} act as three sites; one disk "
            "holds them all, so this is a demonstration and not a safeguard"
        )
    )
    return parse_targets([f"{site}={settings.data_dir / site}" for site in DEFAULT_SITES], settings.directory)


def with_arbiter(call: "Call", targets: "tuple[TargetSpec, ...]", word: str | None) -> "tuple[TargetSpec, ...]":
    """Return the targets with the requested arbiter, or for two sites without one, with a directory on this host."""
    if word is not None:
        return (*targets, parse_arbiter(word, targets, call.settings.directory))
    if len({row.site for row in targets}) != TWO or any(row.vote in {"only", "false"} for row in targets):
        return targets
    place = call.settings.data_dir / f"{ARBITER}-{_fingerprint(targets)}"
    call.emit(
        Warned(
            message=f"two sites need a third vote to continue when one is lost: {place} on this host will vote and "
            "store no packs; --arbiter URL puts the arbiter elsewhere"
        )
    )
    return (*targets, parse_arbiter(str(place), targets, call.settings.directory))


def parse_arbiter(word: str, targets: "Sequence[TargetSpec]", directory: Path) -> "TargetSpec":
    """Parse `URL` or `SITE=URL`. An arbiter is a site of its own."""
    name, equals, url = word.partition("=")
    named = bool(equals) and "/" not in name and ":" not in name
    (spec,) = parse_targets([word if named else f"{ARBITER}={word}"], directory, option="--arbiter")
    if spec.site in {row.site for row in targets}:
        raise UsageError(
            f"--arbiter {word!r}: {spec.site} is already a site, and two votes at one site are lost together",
            hint=f"give the arbiter a site of its own: --arbiter SITE={url if named else word}",
        )
    return replace(spec, vote="only")


def _fingerprint(targets: "Sequence[TargetSpec]") -> str:
    """Return a hash of the places, so that an interrupted `init` finds its own arbiter again."""
    from hashlib import blake2b

    return blake2b("\n".join(sorted(row.url for row in targets)).encode(), digest_size=4).hexdigest()


def parse_targets(words: Sequence[str], directory: Path, option: str = "--target") -> "tuple[TargetSpec, ...]":
    """Parse `SITE[/NAME]=URL`. Each name may occur once."""
    from drtool.model import TargetName
    from drtool.repository import TargetSpec

    specs: dict[str, TargetSpec] = {}
    for word in words:
        name, equals, url = word.partition("=")
        if not equals:
            raise UsageError(f"{option} {word!r} has no URL", hint=f"write {option} paris=/mnt/nas/drtool")
        site, _, place = name.partition("/")
        full = f"{check_name(site, 'site')}/{check_name(place or 'main', 'target')}"
        if full in specs:
            raise UsageError(f"{option} {full} is given twice", hint="name a second target at that site: SITE/NAME=URL")
        try:
            place, access = place_at(url, directory)
        except UsageError as error:
            raise UsageError(f"{option} {error.message}") from None
        specs[full] = TargetSpec(name=TargetName(full), url=place, access=access)
    return tuple(specs.values())


def write_if_new(call: "Call", path: Path, label: str, targets: "Sequence[TargetSpec]", copies: int) -> bool:
    """Write the configuration unless there is one. An existing one is never changed."""
    if path.exists():
        if not call.settings.config.sites:
            call.emit(
                Warned(message=f"{path} exists and is not changed; add the repository's sites to it under `sites:`")
            )
        elif any(row.vote == "only" and row.name not in _named(call) for row in targets):
            call.emit(
                Warned(
                    message=f"{path} exists and is not changed; add the arbiter to the configuration of each other host"
                )
            )
        return False
    password_file = call.options.password_file or os.environ.get("DRTOOL_PASSWORD_FILE")
    chosen = Chosen(
        label=label,
        places=tuple(
            Place(name=str(row.name), url=row.url, access=row.access, keys=row.keys, vote=row.vote) for row in targets
        ),
        copies=copies,
        password_file=str(Path(password_file).absolute()) if password_file else None,
    )
    write_config(path, config_text(chosen))
    warn_if_unusable(call, path)
    return True


def _named(call: "Call") -> set[str]:
    return {f"{site}/{name}" for site, targets in call.settings.config.sites.items() for name in targets}


def init_view(document: Document, promise: str, *, written: bool) -> View:
    rows = [(Cell(site, "strong"), ", ".join(targets)) for site, targets in document["sites"].items()]
    rows += [(Cell(name.partition("/")[0], "strong"), f"{name} (votes only)") for name in document["arbiters"]]
    config = document["config"]
    return view(
        line(
            Cell("created ", "good"),
            f"repository {document['repository_id']} with {count(document['copies'], 'copy', 'copies')} of everything",
        ),
        table("SITE TARGETS", rows),
        line(f"{'wrote' if written else 'kept'} {config}"),
        line(
            Cell("recovery kit: ", "strong"),
            "`drtool key kit --html kit.html` makes a page that explains recovery from nothing; keep it and "
            "the password where the loss of a site cannot reach them",
        ),
        line(
            Cell("protection: ", "strong"),
            f"{promise}; `drtool survive` checks this for the stored data",
        ),
        summary=f"created repository {document['repository_id']} at "
        f"{', '.join(document['sites'])}{''.join(f', arbiter {name}' for name in document['arbiters'])}; "
        f"{'wrote' if written else 'kept'} {config}; {promise}; keep the password and a copy of the "
        "configuration elsewhere",
    )
