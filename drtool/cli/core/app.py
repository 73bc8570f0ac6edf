"""The root command: its help, the global options, shell completion."""

from typing import TYPE_CHECKING, Annotated

import typer

from drtool.cli.core.options import Options
from drtool.cli.core.parser import SETTINGS, AnyCommand, Family

if TYPE_CHECKING:
    from drtool.cli.core.call import Call

BEGINNING = """\
drtool makes backups at several sites, restores them, and proves that the restore works.

  drtool init --target desk=/mnt/desk --target nas=/mnt/nas   create a repository at two sites, and write drtool.yaml
  drtool backup ~/letters                                     take a snapshot
  drtool snapshots                                            list the snapshots
  drtool restore latest --to rescued                          restore the newest snapshot into a new directory
  drtool verify                                               check what is stored
  drtool status                                               show targets, sources and problems

`drtool --help` lists all commands. `drtool COMMAND --help` explains one. Begin with docs/quickstart.md."""
"""The text that `drtool` without arguments shows: the first commands that a newcomer needs."""


def build(call: "Call") -> AnyCommand:
    """Return the parser for one command line."""
    app = typer.Typer(
        name="drtool", cls=Family, no_args_is_help=True, context_settings=SETTINGS, rich_markup_mode=None,
        pretty_exceptions_enable=False, subcommand_metavar="COMMAND …", options_metavar="[GLOBAL OPTIONS]",
    )  # fmt: skip

    @app.callback()
    def root(
        config: Annotated[
            str | None, typer.Option("-c", "--config", metavar="FILE", help="Read this configuration file.")
        ] = None,
        password_file: Annotated[
            str | None, typer.Option(metavar="FILE", help="Read the password from the first line of this file.")
        ] = None,
        metrics_file: Annotated[
            str | None,
            typer.Option(metavar="FILE", help="Write figures of backup, verify, prune and status for Prometheus."),
        ] = None,
        json: Annotated[
            bool, typer.Option("--json", help="Print the result, or the error, as one JSON document.")
        ] = False,
        json_lines: Annotated[
            bool,
            typer.Option("--json-lines", help="Print events as JSON, one per line, and then the document of --json."),
        ] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing if the command succeeds.")] = False,
        verbose: Annotated[
            bool,
            typer.Option(
                "-v", "--verbose", help="Name each item and what happens to it. -vv also shows the protocols."
            ),
        ] = False,
        no_color: Annotated[bool, typer.Option("--no-color", help="Use no colours, as NO_COLOR does.")] = False,
        version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    ) -> None:
        """Back up to several sites, restore, and prove recovery with rehearsals that are measured.

        Copies are at several sites, and the catalogue survives the loss of any one of them. Global options work
        before and after the command. The configuration is the first of --config, $DRTOOL_CONFIG, ./drtool.yaml,
        ~/.config/drtool/drtool.yaml and /etc/drtool/drtool.yaml.
        """
        del json, json_lines, quiet, verbose, no_color, version  # main reads these from argv before the parser runs
        call.options = Options(config=config, password_file=password_file, metrics_file=metrics_file)

    return typer.main.get_command(app)
