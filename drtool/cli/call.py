"""One command line being carried out: what it was given, the world around it, and where its result goes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from drtool.cli.arguments import arrange
from drtool.cli.render import Screen
from drtool.cli.settings import CONFIG_NAME, Options, Settings, load_trusted, named_config, resolve, state_directory
from drtool.cli.text import Document
from drtool.cli.view import View
from drtool.config import Config
from drtool.config.life import Hooks
from drtool.errors import ConfigError, DrtoolError, NoQuorum, UsageError
from drtool.events import Emit, Warned

if TYPE_CHECKING:
    from drtool.cli.life import Life
    from drtool.manifest import View as ManifestView
    from drtool.repository import Repository, RepositorySpec, TargetSpec

LOOKING_PATIENCE_S = 20.0
"""How long a command that only tells how things are waits for a server: that it does not answer is what it tells."""
_LOST = "; if they are lost for ever, `drtool manifest recover` goes on from those that are left"
_FULL_NOT_LOST = "; make room there, or remount what is read-only, then run this again"


class Call:
    """Handed to every command. Settings are read when a command first asks: help needs none."""

    def __init__(self, screen: Screen, words: Sequence[str], closed: frozenset[str] = frozenset()) -> None:
        self.screen = screen
        self.words = tuple(words)
        self._closed = closed
        self.options = Options()
        self.exit_code = 0
        self.document: object = None
        """What was shown at the end."""
        self.choices: list[Document] = []
        """Which snapshot `latest` was, each time that the command line named it."""
        self._noted: set[str] = set()
        self._life: Life | None = None
        self._view: ManifestView | None = None
        self._writes = False

    @cached_property
    def settings(self) -> Settings:
        directory = Path.cwd()
        load = load_trusted(self.options, os.environ, directory)
        return resolve(self.options, os.environ, directory, load, warn=self.warn)

    def warn(self, text: str) -> None:
        """Show a warning."""
        self.emit(Warned(message=text))

    @property
    def state_dir(self) -> Path:
        """The state directory, for commands that must work whatever the configuration says."""
        return state_directory(os.environ)

    @property
    def emit(self) -> Emit:
        return self.screen.emit

    @property
    def rerun(self) -> str:
        """This very command line, for hints."""
        import shlex

        return shlex.join(("drtool", *self.words))

    @property
    def metrics_file(self) -> Path | None:
        """Where figures for Prometheus go."""
        if self.options.metrics_file is not None:
            return self.settings.directory / self.options.metrics_file
        named, path = self.settings.config.metrics_file, self.settings.config_path
        return None if named is None or path is None else path.parent / named

    def check_open(self, stream: str, hint: str) -> None:
        """Raise UsageError if the standard stream that the user named was closed when drtool started."""
        if stream in self._closed:
            raise UsageError(f"{stream} is closed", hint=hint)

    def begin(self, command: str, *, dry_run: bool = False) -> None:
        """For commands that hooks surround, and whose figures Prometheus gets: all is ready, the work begins."""
        if dry_run or (self.settings.config.hooks == Hooks() and self.metrics_file is None):
            return
        from drtool.cli.life import Life

        self._life = Life(self, command)
        self._life.begin()

    def name_items(self, *, dry_run: bool) -> bool:
        """Return whether the command is to emit an `ItemChanged` for each item: in a dry run, and with `--verbose`."""
        return self.screen.name_items(dry_run=dry_run)

    def changes(self) -> list[Document]:
        """Return the items that the command named, for its document."""
        return [{"path": item.path, "change": item.change, "what": list(item.what)} for item in self.screen.changes]

    def end(self, code: int) -> int:
        """The command has ended with `code`; the exit code with what came after it."""
        return code if self._life is None else self._life.end(code)

    def show(self, document: object, view: View, *, exit_code: int = 0) -> None:
        """Ends the command with its result; one that was read from the manifest says how certain that was."""
        self.exit_code = exit_code
        self.document = document
        if self._view is not None and isinstance(document, dict):
            seen = self._view
            document |= {"tentative": seen.tentative, "confirmed_sequence": seen.confirmed_sequence}
            document |= {"latest": self.choices} if self.choices else {}
        self.screen.show(document, view, failed=exit_code != 0)

    def note(self, message: str) -> None:
        """Warn of something, once in a command."""
        if message not in self._noted:
            self._noted.add(message)
            self.emit(Warned(message=message))

    def reading(self, *, writes: bool = False) -> str:
        """The command line that reads without a quorum, for hints: this one, or for one that writes, the list of snapshots."""
        import shlex

        words = (*arrange(self.words).moved, "snapshots") if writes else self.words
        end = words.index("--") if "--" in words else len(words)
        return shlex.join(("drtool", *words[:end], "--manifest-from", "any", *words[end:]))

    def completed(self, error: DrtoolError) -> DrtoolError:
        """The failure as it is shown: where the hint names the option to read without a quorum, the whole command line."""
        if isinstance(error, NoQuorum) and error.hint is not None and "--manifest-from" in error.hint:
            if ": --manifest-from" in error.hint:
                error.hint = f"to read what single sites know: {self.reading(writes=True)}"
            if "can write at" in error.message:
                error.message += _FULL_NOT_LOST
            elif self._writes:
                error.message += _LOST
        return error

    def open_repository(self, manifest_from: Sequence[str] | None = None, *, declares: bool = False) -> "Repository":
        """The repository that the configuration names; `manifest_from` is None for a command that writes.

        `declares`: the command says which copy of a target that exists twice goes on. Raises ConfigError if there is no
        configuration.
        """
        self._writes = manifest_from is None
        return self.open(replace(self.spec(self.configured_targets(), manifest_from), declares=declares))

    @contextmanager
    def look_inside(self, manifest_from: Sequence[str] = ()) -> "Iterator[Repository]":
        """The repository, for a command that reads what is stored: damage that it meets is recorded for all hosts in the end."""
        from drtool.repository.findings import recording_reads

        with self.open_repository(manifest_from) as repository, recording_reads(repository, self.emit):
            yield repository

    def open_anyhow(self, manifest_from: Sequence[str] = ()) -> "Repository":
        """For commands that tell how things are: without a quorum, what any site knows; `uncertain` says why."""
        spec = self.spec(self.configured_targets(), manifest_from)
        patience_s = min(spec.patience_s, LOOKING_PATIENCE_S)
        return self.open(replace(spec, anyhow=not manifest_from, patience_s=patience_s))

    def open(self, spec: "RepositorySpec") -> "Repository":
        from drtool.repository import open_repository

        repository = open_repository(spec, self.emit)
        self._view = repository.view
        return repository

    def spec(
        self, targets: "Sequence[TargetSpec]", manifest_from: Sequence[str] | None = None, *, makes: bool = True
    ) -> "RepositorySpec":
        """What it takes to reach the repository; `makes` the state directory, too."""
        from drtool.repository import RepositorySpec
        from drtool.stores import Rates

        settings = self.settings
        limits = settings.config.limits
        if makes:
            make_private(settings.state_dir)
        return RepositorySpec(
            label=settings.config.repository,
            targets=tuple(targets),
            cache_dir=settings.cache_dir,
            state_dir=settings.state_dir,
            password=settings.password,
            host=settings.host,
            user=settings.user,
            timezone=settings.timezone,
            manifest_from=tuple(manifest_from or ()),
            rerun=self.rerun,
            reading=self.reading(writes=manifest_from is None),
            config=str(settings.config_path or CONFIG_NAME),
            trace=(lambda note: self.screen.trace(f"{note.phase}: {note.text}")) if self.screen.form.traces else None,
            rates=Rates(upload_bytes_s=limits.upload, download_bytes_s=limits.download),
            patience_s=limits.patience,
        )

    def configured_targets(self) -> "tuple[TargetSpec, ...]":
        """The targets that the configuration names."""
        return targets_of(self.settings.config, self.check_configured().parent)

    def check_configured(self) -> Path:
        """The configuration's path. Raises ConfigError if there is none, or it names no sites."""
        path = self.settings.config_path
        if path is None:
            raise self._no_config()
        if not self.settings.config.sites:
            raise ConfigError(
                f"{path}: no sites are configured", hint="name them under `sites:`, or found a repository: drtool init"
            )
        return path

    def _no_config(self) -> ConfigError:
        named = named_config(self.options, os.environ, Path.cwd())
        if named is not None:
            return ConfigError(f"there is no configuration at {named}", hint="`drtool init` writes one there")
        return ConfigError(
            "there is no configuration: no --config, no $DRTOOL_CONFIG, no ./drtool.yaml, and none in the usual places",
            hint="found a repository with `drtool init`, or say where one is: drtool --config FILE …",
        )


def targets_of(config: Config, directory: Path) -> "tuple[TargetSpec, ...]":
    """A configuration's targets; plain paths and names of files are relative to `directory`."""
    from drtool.model import TargetName
    from drtool.repository import TargetSpec

    specs = []
    for site, targets in config.sites.items():
        for name, target in targets.items():
            url, access = target.place(directory)
            full = TargetName(f"{site}/{name}")
            specs.append(
                TargetSpec(name=full, url=url, access=access, weight=target.weight, keys=target.keys, vote=target.vote)
            )
    return tuple(specs)


def make_private(directory: Path) -> None:
    """A directory for this user's eyes only."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
