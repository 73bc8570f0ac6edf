"""The entry point: argv in, exit code out.

Invariants
    Every expected failure ends as one sentence (or one JSON document) and its exit code. An unexpected one is reported as a
    bug in drtool, and its traceback is kept for the report.
    `--version` is answered before the parser is imported.
"""

from __future__ import annotations

import gc
import os
import sys

from drtool import __version__
from drtool.cli.core.arguments import Arguments, arrange
from drtool.cli.core.streams import buffer_stdout, occupy, open_all

# True for type checkers. Importing typing would double the time of `drtool --version`
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from drtool.cli.core.call import Call
    from drtool.cli.core.render import Form


def main() -> None:
    """Run the console script."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Execute one command line. Return its exit code."""
    closed = open_all()
    arguments = arrange(argv)
    if arguments.has("--version"):
        return _print_version(as_json=arguments.has("--json", "--json-lines"))
    if not sys.platform.startswith(("linux", "darwin")):
        sys.stderr.write("drtool runs on Linux (and, as best effort, on macOS)\n")
        return 2
    from drtool.cli.core.call import Call
    from drtool.cli.core.render import Screen

    buffer_stdout()
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    screen = Screen(_form(arguments))
    call = Call(screen, argv, closed)
    gc.set_threshold(100_000, 20, 100)  # millions of small objects live long here, and hardly any in cycles
    _catch_signals()
    try:
        code = _carry_out(call, arguments)
        screen.flush()
        code = _end(call, code or int(screen.lost))
    finally:
        screen.finish()
    return code or int(screen.lost)


def _print_version(*, as_json: bool) -> int:
    try:
        sys.stdout.write((f'{{"version": "{__version__}"}}' if as_json else f"drtool {__version__}") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        occupy(1)
    except OSError as error:
        occupy(1)
        sys.stderr.write(f"drtool: stdout cannot be written: {error.strerror}\n")
        return 1
    return 0


def _form(arguments: Arguments) -> Form:
    from drtool.cli.core.render import Form

    return Form(
        json=arguments.has("--json"),
        json_lines=arguments.has("--json-lines"),
        quiet=arguments.has("-q", "--quiet"),
        verbose=arguments.has("-v", "--verbose"),
        traces=arguments.count("-v", "--verbose") > 1,
        color=not arguments.has("--no-color") and not os.environ.get("NO_COLOR"),
    )


def _carry_out(call: Call, arguments: Arguments) -> int:
    from drtool.errors import DrtoolError, Interrupted

    try:
        _parse_and_call(call, arguments)
    except Interrupted as error:
        call.screen.fail(error)
        return 128 + error.signal_number
    except DrtoolError as error:
        call.screen.fail(call.completed(error))
        return error.exit_code
    except OSError as error:
        from drtool.cli.core.crash import refused

        call.screen.fail(refused(call, error))
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug is reported, never shown raw
        from drtool.cli.core.crash import report

        call.screen.fail(report(call, error))
        return 1
    return call.exit_code


def _end(call: Call, code: int) -> int:
    """Run what follows a command. Only a further interruption ends it early."""
    from drtool.errors import DrtoolError, Interrupted, worst_exit

    try:
        return call.end(code)
    except Interrupted as error:
        return 128 + error.signal_number
    except DrtoolError as error:
        call.screen.complain(error.message)
        return worst_exit(code, error.exit_code)


def _parse_and_call(call: Call, arguments: Arguments) -> None:
    import typer

    from drtool.cli.core.app import BEGINNING, build
    from drtool.errors import Interrupted, UsageError

    if arguments.dangling:
        raise UsageError(f"the option {arguments.dangling} needs a value")
    try:
        build(call)(args=arguments.argv, prog_name="drtool", obj=call, standalone_mode=False)
    except typer.exceptions.TyperException as error:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError" and context is not None and not call.screen.form.documents:
            call.screen.text(context.get_help() if context.parent is not None else BEGINNING)
            call.exit_code = error.exit_code
            return
        where = context.command_path if context is not None else "drtool"
        raise UsageError(_sentence(error.format_message()), hint=f"{where} --help") from None
    except typer.Abort:
        raise Interrupted(2) from None


def _sentence(message: str) -> str:
    """Return a parser's message in drtool's form. A whole help page becomes a short sentence."""
    text = " ".join(message.split()).rstrip(".")
    return (
        "no command given"
        if text.startswith(("Usage:", "Missing command")) or not text
        else text[:1].lower() + text[1:]
    )


def _catch_signals() -> None:
    """Turn `INTERRUPTS` into `Interrupted` in this process. A forked worker exits at once."""
    import signal

    from drtool.errors import INTERRUPTS

    owner = os.getpid()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        from drtool.errors import Interrupted

        if os.getpid() != owner:
            os._exit(128 + number)
        if number == signal.SIGHUP:  # a lost terminal signals more than once: to the shell's jobs, then to its group
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise Interrupted(number)

    for number in INTERRUPTS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays in force
            signal.signal(number, interrupt)
