"""`init`: founds a repository and writes the configuration that reaches it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from drtool.cli.call import targets_of
from drtool.cli.settings import CONFIG_NAME, ask_password, named_config
from drtool.cli.text import Document, count, document_of
from drtool.cli.trust import check_config, trust_of
from drtool.cli.view import Cell, View, line, table, view
from drtool.cli.writing import Chosen, Place, config_text, write_config
from drtool.config.schema import check_name, place_at
from drtool.crypto.strength import weakness
from drtool.errors import ConfigError, DrtoolError, UsageError
from drtool.events import Warned

if TYPE_CHECKING:
    from drtool.cli.call import Call
    from drtool.repository import TargetSpec

DEFAULT_SITES = ("one", "two", "three")
ARBITER = "arbiter"
TWO = 2


def init(
    context: typer.Context,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="SITE[/NAME]=URL", help="A place for copies; a site is what may fail as a whole."),
    ] = None,
    copies: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Sites that hold each pack (default 2).")
    ] = None,
    arbiter: Annotated[
        str | None,
        typer.Option(metavar="[SITE=]URL", help="A place that only votes; for two sites one is added anyway."),
    ] = None,
    hide_sizes: Annotated[
        bool,
        typer.Option(
            "--hide-sizes/--show-sizes", help="Pad packs and cut files under a key, so that sites learn no sizes."
        ),
    ] = True,
    replace_known: Annotated[
        bool,
        typer.Option("--replace-known", help="Found where this host knows a repository whose disk is not mounted."),
    ] = False,
) -> None:
    """Found a repository, and write the configuration if there is none.

    Without --target the configuration's sites are used; without those, three directories below ~/.local/share/drtool:
    a demonstration, since one disk holds them all.

    A place where this host knows a repository is refused while another directory is there, such as the mount point of a disk
    that is not mounted. A repository that was deleted leaves its place free.

    Two sites need a third vote, so that writing goes on when any one is lost: an arbiter, which holds the catalogue and no
    packs. Without --arbiter it is a directory on this host.

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
    password = settings.password() if settings.password_given else new_password(call)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)  # with umask 0 others could replace the file
    spec = replace(spec, password=lambda: password)
    result = found(spec, wanted, redundancy.minimum, call.emit, hides_sizes=hide_sizes, replaces_known=replace_known)
    written = write_if_new(call, path, spec.label, targets, result.copies)
    document = document_of(replace(result, config=str(path)))
    promise = promise_of_new(targets, result.copies)
    document["restorable_with"] = document_of(promise)
    call.show(document, init_view(document, str(promise), written=written))


def known_zone(call: "Call") -> str:
    """The time zone that retention will count days in; UTC if this host's is not one that any host knows by its name."""
    from drtool.operations.forget.plan import zone_of

    name = call.settings.timezone
    try:
        zone_of(name)
    except DrtoolError as error:
        if call.settings.config.retention.timezone is not None:
            raise ConfigError(f"retention.timezone: there is no time zone {name!r} here", hint=error.hint) from None
        call.emit(
            Warned(
                message=f"this host's time zone {name!r} has no name that others know, so days and weeks of retention will be "
                "those of UTC; retention.timezone in the configuration names another"
            )
        )
        return "UTC"
    return name


def config_path(call: "Call") -> Path:
    """Where the configuration is, or will be written: --config, $DRTOOL_CONFIG, else ./drtool.yaml."""
    settings = call.settings
    named = named_config(call.options, os.environ, settings.directory)
    return (settings.config_path or named or settings.directory / CONFIG_NAME).absolute()


def chosen_targets(call: "Call", words: Sequence[str]) -> "tuple[TargetSpec, ...]":
    """The command line's targets, else the configuration's, else the embedded default."""
    settings = call.settings
    if words:
        return parse_targets(words, settings.directory)
    if settings.config_path and settings.config.sites:
        return targets_of(settings.config, settings.config_path.parent)
    call.emit(
        Warned(
            message=f"no targets were named: three directories below {settings.data_dir} stand for three sites; "
            "one disk holds them all, so this is a demonstration and not a safeguard"
        )
    )
    return parse_targets([f"{site}={settings.data_dir / site}" for site in DEFAULT_SITES], settings.directory)


def with_arbiter(call: "Call", targets: "tuple[TargetSpec, ...]", word: str | None) -> "tuple[TargetSpec, ...]":
    """With the arbiter that is asked for; for two sites without one, with a directory on this host."""
    if word is not None:
        return (*targets, parse_arbiter(word, targets, call.settings.directory))
    if len({row.site for row in targets}) != TWO or any(row.vote in {"only", "false"} for row in targets):
        return targets
    place = call.settings.data_dir / f"{ARBITER}-{_fingerprint(targets)}"
    call.emit(
        Warned(
            message=f"two sites need a third vote to go on when one is lost: {place} on this host will vote and store nothing "
            "else; --arbiter URL puts that elsewhere"
        )
    )
    return (*targets, parse_arbiter(str(place), targets, call.settings.directory))


def parse_arbiter(word: str, targets: "Sequence[TargetSpec]", directory: Path) -> "TargetSpec":
    """`URL`, or `SITE=URL`; a site of its own."""
    name, equals, url = word.partition("=")
    named = bool(equals) and "/" not in name and ":" not in name
    (spec,) = parse_targets([word if named else f"{ARBITER}={word}"], directory, option="--arbiter")
    if spec.site in {row.site for row in targets}:
        raise UsageError(
            f"--arbiter {word!r}: {spec.site} is a site already, and two votes of one site are lost together",
            hint=f"name the arbiter's own site: --arbiter SITE={url if named else word}",
        )
    return replace(spec, vote="only")


def _fingerprint(targets: "Sequence[TargetSpec]") -> str:
    """The same for the same places, so that an `init` that was interrupted finds its own arbiter again."""
    from hashlib import blake2b

    return blake2b("\n".join(sorted(row.url for row in targets)).encode(), digest_size=4).hexdigest()


def parse_targets(words: Sequence[str], directory: Path, option: str = "--target") -> "tuple[TargetSpec, ...]":
    """`SITE[/NAME]=URL`, each name once."""
    from drtool.model import TargetName
    from drtool.repository import TargetSpec

    specs: dict[str, TargetSpec] = {}
    for word in words:
        name, equals, url = word.partition("=")
        if not equals:
            raise UsageError(f"{option} {word!r} says no place", hint=f"write {option} paris=/mnt/nas/drtool")
        site, _, place = name.partition("/")
        full = f"{check_name(site, 'site')}/{check_name(place or 'main', 'target')}"
        if full in specs:
            raise UsageError(f"{option} {full} is given twice", hint="name a second one at that site: SITE/NAME=URL")
        try:
            place, access = place_at(url, directory)
        except UsageError as error:
            raise UsageError(f"{option} {error.message}") from None
        specs[full] = TargetSpec(name=TargetName(full), url=place, access=access)
    return tuple(specs.values())


def write_if_new(call: "Call", path: Path, label: str, targets: "Sequence[TargetSpec]", copies: int) -> bool:
    """Writes the configuration unless there is one. One that is there is never changed."""
    if path.exists():
        if not call.settings.config.sites:
            call.emit(
                Warned(message=f"{path} exists and is not changed; add the repository's sites to it under `sites:`")
            )
        elif any(row.vote == "only" and row.name not in _named(call) for row in targets):
            call.emit(Warned(message=f"{path} exists and is not changed; other hosts need the arbiter named in theirs"))
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


def warn_if_unusable(call: "Call", path: Path) -> None:
    """Warn where a new configuration would be refused: below a directory that another user may change, as under `sudo`."""
    if path == call.settings.directory / CONFIG_NAME and path != named_config(
        call.options, os.environ, call.settings.directory
    ):
        try:
            check_config(path, trust_of(named=False))
        except ConfigError as error:
            call.emit(Warned(message=f"{error.message}; {error.hint}"))


def _named(call: "Call") -> set[str]:
    return {f"{site}/{name}" for site, targets in call.settings.config.sites.items() for name in targets}


def new_password(call: "Call") -> bytes:
    """Asks twice, or proposes one; without a terminal, UsageError."""
    call.screen.end_progress()
    first = ask_password_or_none("New password (empty: propose one): ")
    if first is None:
        return _proposed(call)
    if weak := weakness(first):
        raise UsageError(
            f"this password is too easy to guess: it {weak}; nothing was done",
            hint="take five or more random words, or press Enter and take the one that is proposed",
        )
    if ask_password("The same again: ") != first:
        raise UsageError("the two passwords differ; nothing was done")
    return first


def ask_password_or_none(question: str) -> bytes | None:
    import getpass
    import sys

    if not sys.stdin.isatty():
        return ask_password()
    return os.fsencode(getpass.getpass(question)) or None


def _proposed(call: "Call") -> bytes:
    """130 bits, in letters that nobody mixes up."""
    import secrets

    letters = "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(26))
    text = "-".join(letters[start : start + 5] for start in range(0, 26, 5))
    call.screen.say(
        f"\n    {text}\n\nWrite it down, or keep it in a password store: without it nothing can be restored."
    )
    if ask_password("Type it to confirm: ") != text.encode():
        raise UsageError("that is not the proposed password; nothing was done")
    return text.encode()


def init_view(document: Document, promise: str, *, written: bool) -> View:
    rows = [(Cell(site, "strong"), ", ".join(targets)) for site, targets in document["sites"].items()]
    rows += [(Cell(name.partition("/")[0], "strong"), f"{name} (votes only)") for name in document["arbiters"]]
    config = document["config"]
    return view(
        line(
            Cell("founded ", "good"),
            f"repository {document['repository_id']}, {count(document['copies'], 'copy', 'copies')} of everything",
        ),
        table("SITE TARGETS", rows),
        line(f"{'wrote' if written else 'kept'} {config}"),
        line(
            Cell("recovery kit: ", "strong"),
            "`drtool key kit --html kit.html` makes a page with the way back from nothing; keep it and the password "
            "where no site's loss reaches them",
        ),
        line(
            Cell("what holds: ", "strong"),
            f"with these, {promise}; `drtool survive` says what holds for what is stored",
        ),
        summary=f"founded repository {document['repository_id']} at {', '.join(document['sites'])}"
        f"{''.join(f', arbiter {name}' for name in document['arbiters'])}; "
        f"{'wrote' if written else 'kept'} {config}; {promise}; keep the password and a copy of it elsewhere",
    )
