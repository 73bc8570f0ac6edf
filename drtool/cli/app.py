"""The root command: its help, the global options, shell completion."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.parser import SETTINGS, AnyCommand, Family
from drtool.cli.settings import Options

if TYPE_CHECKING:
    from drtool.cli.call import Call

BEGINNING = """\
drtool backs up to several sites, brings back, and proves that it can.

  drtool init --target desk=/mnt/desk --target nas=/mnt/nas   found a repository over two places, and write drtool.yaml
  drtool backup ~/letters                                     take a snapshot
  drtool snapshots                                            list the snapshots
  drtool restore latest --to rescued                          bring the newest one back, into a directory of its own
  drtool verify                                               check what is stored
  drtool status                                               show targets, sources and problems

`drtool --help` lists all commands, `drtool COMMAND --help` says what one can do. Begin with docs/quickstart.md."""
"""What whoever types nothing else may want to type next."""


def build(call: "Call") -> AnyCommand:
    """The parser for one command line."""
    app = typer.Typer(
        name="drtool", cls=Family, no_args_is_help=True, context_settings=SETTINGS, rich_markup_mode=None,
        pretty_exceptions_enable=False, subcommand_metavar="COMMAND …", options_metavar="[GLOBAL OPTIONS]",
    )  # fmt: skip

    @app.callback()
    def root(
        config: Annotated[str | None, typer.Option("-c", "--config", metavar="FILE", help="The configuration.")] = None,
        password_file: Annotated[
            str | None, typer.Option(metavar="FILE", help="The file whose first line is the password.")
        ] = None,
        metrics_file: Annotated[
            str | None,
            typer.Option(metavar="FILE", help="Figures for Prometheus, of backup, verify, prune and status."),
        ] = None,
        json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, failures too.")] = False,
        json_lines: Annotated[
            bool, typer.Option("--json-lines", help="Events as JSON, one a line; then that document.")
        ] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing on success.")] = False,
        verbose: Annotated[
            bool,
            typer.Option(
                "-v", "--verbose", help="Name each item and what happens to it; -vv shows the protocols, too."
            ),
        ] = False,
        no_color: Annotated[bool, typer.Option("--no-color", help="No colours; so does NO_COLOR.")] = False,
        version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    ) -> None:
        """Disaster recovery and backup across sites: copies on several, a catalogue that needs no single one of them,
        recovery that is rehearsed and measured.

        Global options may stand before or after the command. The configuration is --config, $DRTOOL_CONFIG,
        ./drtool.yaml, ~/.config/drtool/drtool.yaml or /etc/drtool/drtool.yaml, whichever is first.
        """
        del json, json_lines, quiet, verbose, no_color, version  # read from argv before the parser runs
        call.options = Options(config=config, password_file=password_file, metrics_file=metrics_file)

    return typer.main.get_command(app)
