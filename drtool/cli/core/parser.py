"""The parser: Typer's, with lazily imported commands, exit codes in each help, and refusal of what is not built yet."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from drtool.cli.core import registry
from drtool.cli.core.registry import COMMANDS, GROUPS, LATER, LATER_OPTIONS, Path
from drtool.errors import EXIT_MEANINGS, UsageError

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_EXAMPLES = "Examples:"
HelpFormatter = Any  # Typer vendors Click privately, so these three types have no public name
AnyCommand = Any
AnyContext = Any


class Command(TyperCommand):
    """A command whose help ends with its examples and its exit codes."""

    path: Path = ()
    examples: tuple[str, ...] = ()

    def format_epilog(self, ctx: AnyContext, formatter: HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {example}\n" for example in self.examples))
        exits = sorted(COMMANDS[self.path].exits)
        with formatter.section("Exit codes"):
            formatter.write_dl([(f"{code:>3}", EXIT_MEANINGS[code]) for code in exits])


class LaterCommand(TyperCommand):
    """A command of the contract that is not built yet. It accepts any words and refuses with exit 2."""

    def __init__(self, path: Path) -> None:
        settings = {"ignore_unknown_options": True, "allow_extra_args": True, **SETTINGS}
        name = " ".join(path)
        super().__init__(
            path[-1], callback=lambda: refuse(f"drtool {name}"), context_settings=settings, hidden=True,
            help=f"drtool {name} is not built yet.", rich_markup_mode=None,
        )  # fmt: skip


class Family(TyperGroup):
    """The group of commands below a prefix. Each command is imported when it is named."""

    def __init__(self, *args: object, prefix: Path = (), **keywords: Any) -> None:  # noqa: ANN401 - Typer's own arguments
        super().__init__(*args, **keywords)
        self.prefix = prefix

    def list_commands(self, ctx: AnyContext) -> list[str]:
        return registry.names_below(self.prefix)

    def get_command(self, ctx: AnyContext, cmd_name: str) -> AnyCommand | None:
        path = (*self.prefix, cmd_name)
        if registry.is_group(path):
            return group(path)
        if path in LATER:
            return LaterCommand(path)
        if path in COMMANDS:
            return command(path)
        if ctx.resilient_parsing:  # completion asks about half a word
            return None
        raise unknown(path)

    def format_commands(self, ctx: AnyContext, formatter: HelpFormatter) -> None:
        """Write the commands by section, with one width of the first column for all sections."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for path in sorted(COMMANDS, key=list(COMMANDS).index):
            if path[: len(self.prefix)] == self.prefix:
                section = COMMANDS[path].section or "Administration"
                rows.setdefault(section, []).append((" ".join(path[len(self.prefix) :]), short_help(path)))
        width = max(len(name) for section in rows.values() for name, _ in section)
        for section, listed in rows.items():
            with formatter.section(section if not self.prefix else "Commands"):
                formatter.write_dl([(name.ljust(width), text) for name, text in listed])

    def format_epilog(self, ctx: AnyContext, formatter: HelpFormatter) -> None:
        later = sorted(" ".join(path[len(self.prefix) :]) for path in LATER if path[: len(self.prefix)] == self.prefix)
        if later:
            with formatter.section("Not built yet"):
                formatter.write_text(", ".join(later))
        if not self.prefix:
            formatter.write_paragraph()
            formatter.write_text("`drtool COMMAND --help` shows a command's options, examples and exit codes.")


_ELSEWHERE = {
    "check": "drtool verify",
    "compact": "drtool prune",
    "create": "drtool backup",
    "delete": "drtool forget --prune",
    "extract": "drtool restore",
    "help": "drtool --help, or drtool COMMAND --help",
    "info": "drtool snapshots, drtool stats, drtool status",
    "list": "drtool snapshots, or drtool ls SNAPSHOT for its files",
    "rebuild-index": "drtool repair",
    "recover": "drtool manifest recover",
    "snapshot": "drtool snapshots, or drtool backup to make one",
    "unlock": "nothing is needed, because no lock outlives its process (drtool session list shows running sessions)",
}
"""drtool's equivalents of other backup tools' commands."""


def unknown(path: Path) -> UsageError:
    if len(path) == 1 and path[0] in _ELSEWHERE:
        return UsageError(f"no such command {path[0]!r}", hint=f"the equivalent of {path[0]} is: {_ELSEWHERE[path[0]]}")
    known = registry.names_below(path[:-1])
    close = get_close_matches(path[-1], known, n=1)
    meant = f"; the nearest is {close[0]!r}" if close else ""
    return UsageError(f"no such command {path[-1]!r}{meant}", hint=" ".join(("drtool", *path[:-1], "--help")))


def refuse(what: str) -> NoReturn:
    raise UsageError(f"{what} is not built yet", hint="drtool --help lists what this version can do")


def group(path: Path) -> Family:
    return Family(
        name=path[-1], prefix=path, help=GROUPS.get(path[0], f"drtool {path[0]} is not built yet."), no_args_is_help=True,
        hidden=path[0] not in GROUPS, context_settings=SETTINGS, rich_markup_mode=None, subcommand_metavar="COMMAND …",
    )  # fmt: skip


def function_of(path: Path) -> Callable[..., None]:
    """Return the function of a command: `plan_run` for `plan run`."""
    function: Callable[..., None] = getattr(import_module(registry.module_of(path)), "_".join(path))
    return function


def short_help(path: Path) -> str:
    return (function_of(path).__doc__ or "").strip().partition("\n")[0]


def command(path: Path) -> Command:
    """Return Typer's command for a function.

    The docstring is the help, and the text after `Examples:` is shown at the end.
    """
    function = function_of(path)
    text, _, examples = inspect.cleandoc(function.__doc__ or "").partition(_EXAMPLES)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(path[-1], cls=Command, help=text.strip(), context_settings=SETTINGS)(function)
    built = typer.main.get_command(single)
    assert isinstance(built, Command)
    built.path = path
    built.examples = tuple(line.strip() for line in examples.splitlines() if line.strip())
    built.params += [_later_option(name) for name in LATER_OPTIONS.get(path, ())]
    return built


def _later_option(declared: str) -> TyperOption:
    name = declared.rstrip("=")

    def check(_context: object, _option: object, value: object) -> None:
        if value:
            refuse(f"the option {name}")

    return TyperOption(
        param_decls=[name], type=str if declared.endswith("=") else bool, is_flag=not declared.endswith("="),
        expose_value=False, hidden=True, callback=check, default=None if declared.endswith("=") else False,
    )  # fmt: skip
