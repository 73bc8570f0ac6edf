"""The execution of one command line: its settings, its repository, and where its result goes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from drtool.cli.core.arguments import arrange
from drtool.cli.core.options import Options
from drtool.cli.core.render import Screen
from drtool.cli.core.settings import CONFIG_NAME, Settings, load_trusted, named_config, resolve, state_directory
from drtool.cli.core.text import Document
from drtool.cli.core.view import View
from drtool.config import Config
from drtool.config.life import Hooks
from drtool.errors import ConfigError, DrtoolError, NoQuorum, UsageError
from drtool.events import Emit, Warned

if TYPE_CHECKING:
    from drtool.cli.core.hooks import CommandHooks
    from drtool.manifest import View as ManifestView
    from drtool.repository import Repository, RepositorySpec, TargetSpec

REPORT_PATIENCE_S = 20.0
"""How long a command that only reports waits for a server.

It is shorter than for other commands, because a server that does not answer is part of the report.
"""
_LOST = "; if they are lost for ever, `drtool manifest recover` continues from the remaining sites"
_FULL_NOT_LOST = "; free some space there, or remount a read-only file system, then run this again"


class Call:
    """The context that every command receives.

    Settings are read on first use, because `--help` needs none.
    """

    def __init__(self, screen: Screen, words: Sequence[str], closed: frozenset[str] = frozenset()) -> None:
        self.screen = screen
        self.words = tuple(words)
        self._closed = closed
        self.options = Options()
        self.exit_code = 0
        self.document: object = None
        """The result that `show` was given."""
        self.choices: list[Document] = []
        """The snapshot that `latest` selected, for each time that the command line names it."""
        self._noted: set[str] = set()
        self._hooks: CommandHooks | None = None
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
        """Return the state directory, for commands that must work even if the configuration is broken."""
        return state_directory(os.environ)

    @property
    def emit(self) -> Emit:
        return self.screen.emit

    @property
    def rerun(self) -> str:
        """Return this command line, for hints."""
        import shlex

        return shlex.join(("drtool", *self.words))

    @property
    def metrics_file(self) -> Path | None:
        """Return the file for Prometheus figures, or None."""
        if self.options.metrics_file is not None:
            return self.settings.directory / self.options.metrics_file
        return self.configured_metrics_file

    @property
    def configured_metrics_file(self) -> Path | None:
        """Return the file that the configuration names for the figures, or None."""
        named, path = self.settings.config.metrics_file, self.settings.config_path
        return None if named is None or path is None else (path.parent / named).absolute()

    def check_open(self, stream: str, hint: str) -> None:
        """Raise UsageError if the standard stream that the user named was closed when drtool started."""
        if stream in self._closed:
            raise UsageError(f"{stream} is closed", hint=hint)

    def begin(self, command: str, *, dry_run: bool = False) -> None:
        """Mark the beginning of the work: run the `before` hooks, and prepare the figures for Prometheus."""
        if not dry_run and self.configured_metrics_file is None:
            self._withdraw_metrics()
        if dry_run or (self.settings.config.hooks == Hooks() and self.metrics_file is None):
            return
        from drtool.cli.core.hooks import CommandHooks

        self._hooks = CommandHooks(self, command)
        self._hooks.begin()

    def _withdraw_metrics(self) -> None:
        """Remove the figures that an earlier configuration wrote, because they would look current for ever."""
        if not (self.settings.state_dir / "metrics").is_dir():
            return
        from drtool.reports.metrics import withdraw

        try:
            withdraw(self.settings.state_dir, self.settings.config_name)
        except OSError as error:
            self.screen.complain(f"the old file of figures cannot be removed: {error}")

    def name_items(self, *, dry_run: bool) -> bool:
        """Return whether the command is to emit an `ItemChanged` for each item: in a dry run, and with `--verbose`."""
        return self.screen.name_items(dry_run=dry_run)

    def changes(self) -> list[Document]:
        """Return the items that the command named, for its document."""
        return [{"path": item.path, "change": item.change, "what": list(item.what)} for item in self.screen.changes]

    def end(self, code: int) -> int:
        """Run what follows the command, which ended with `code`. Return the exit code of both."""
        return code if self._hooks is None else self._hooks.end(code)

    def show(self, document: object, view: View, *, exit_code: int = 0) -> None:
        """End the command with its result. A result read from the manifest also records how certain it is."""
        self.exit_code = exit_code
        self.document = document
        if self._view is not None and isinstance(document, dict):
            seen = self._view
            document |= {"tentative": seen.tentative, "confirmed_sequence": seen.confirmed_sequence}
            document |= {"latest": self.choices} if self.choices else {}
        self.screen.show(document, view, failed=exit_code != 0)

    def note(self, message: str) -> None:
        """Show a warning once per command."""
        if message not in self._noted:
            self._noted.add(message)
            self.emit(Warned(message=message))

    def reading_command(self, *, writes: bool = False) -> str:
        """Return a command line that reads without a quorum, for hints.

        It is this command line, or `snapshots` for a command that writes.
        """
        import shlex

        words = (*arrange(self.words).moved, "snapshots") if writes else self.words
        end = words.index("--") if "--" in words else len(words)
        return shlex.join(("drtool", *words[:end], "--manifest-from", "any", *words[end:]))

    def completed(self, error: DrtoolError) -> DrtoolError:
        """Return the failure with its hint completed: the whole command line for reading without a quorum."""
        if isinstance(error, NoQuorum) and error.hint is not None and "--manifest-from" in error.hint:
            if ": --manifest-from" in error.hint:
                error.hint = f"to read the catalogue of single sites: {self.reading_command(writes=True)}"
            if "can write at" in error.message:
                error.message += _FULL_NOT_LOST
            elif self._writes:
                error.message += _LOST
        return error

    def open_repository(self, manifest_from: Sequence[str] | None = None, *, declares: bool = False) -> "Repository":
        """Open the configured repository. `manifest_from` is None for a command that writes.

        `declares` is set by a command that decides which copy of a duplicated target stays in use. Raise ConfigError
        if there is no configuration.
        """
        self._writes = manifest_from is None
        return self.open(replace(self.spec(self.configured_targets(), manifest_from), declares=declares))

    @contextmanager
    def open_for_reading(self, manifest_from: Sequence[str] = ()) -> "Iterator[Repository]":
        """Open the repository for a command that reads stored data.

        Damage found while reading is recorded for all hosts at the end.
        """
        from drtool.repository.findings import recording_reads

        with self.open_repository(manifest_from) as repository, recording_reads(repository, self.emit):
            yield repository

    def open_for_report(self, manifest_from: Sequence[str] = ()) -> "Repository":
        """Open the repository for a command that reports.

        Without a quorum, the view is that of the sites that answer, and `uncertain` holds the reason.
        """
        spec = self.spec(self.configured_targets(), manifest_from)
        patience_s = min(spec.patience_s, REPORT_PATIENCE_S)
        return self.open(replace(spec, anyhow=not manifest_from, patience_s=patience_s))

    def open(self, spec: "RepositorySpec") -> "Repository":
        from drtool.repository import open_repository

        repository = open_repository(spec, self.emit)
        self._view = repository.view
        return repository

    def spec(
        self, targets: "Sequence[TargetSpec]", manifest_from: Sequence[str] | None = None, *, makes: bool = True
    ) -> "RepositorySpec":
        """Return everything needed to reach the repository. `makes` also creates the state directory."""
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
            reading=self.reading_command(writes=manifest_from is None),
            config=str(settings.config_path or CONFIG_NAME),
            trace=(lambda note: self.screen.trace(f"{note.phase}: {note.text}")) if self.screen.form.traces else None,
            rates=Rates(upload_bytes_s=limits.upload, download_bytes_s=limits.download),
            patience_s=limits.patience,
        )

    def configured_targets(self) -> "tuple[TargetSpec, ...]":
        """Return the targets that the configuration names."""
        return targets_of(self.settings.config, self.check_configured().parent)

    def check_configured(self) -> Path:
        """Return the configuration's path. Raise ConfigError if there is none, or if it names no sites."""
        path = self.settings.config_path
        if path is None:
            raise self._no_config()
        if not self.settings.config.sites:
            raise ConfigError(
                f"{path}: no sites are configured", hint="list them under `sites:`, or create a repository: drtool init"
            )
        return path

    def _no_config(self) -> ConfigError:
        named = named_config(self.options, os.environ, Path.cwd())
        if named is not None:
            return ConfigError(f"there is no configuration at {named}", hint="`drtool init` writes one there")
        return ConfigError(
            "no configuration found: no --config, no $DRTOOL_CONFIG, no ./drtool.yaml, and none in the default places",
            hint="create a repository with `drtool init`, or name the file: drtool --config FILE …",
        )


def targets_of(config: Config, directory: Path) -> "tuple[TargetSpec, ...]":
    """Return a configuration's targets. Plain paths and file names are relative to `directory`."""
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
    """Create a directory that only this user can access."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
