"""A repository with hooks and figures, as cron runs its commands."""

from pathlib import Path

from command_shell import Shell, shell_in

CONFIG = """
sources: {home: {paths: [tree]}}
retention: {keep_last: 2}
metrics_file: drtool.prom
hooks:
  before_backup: [sh, -c, "echo before >> log; test ! -e stop"]
  after_backup: [sh, -c, "echo after $DRTOOL_EXIT_CODE $DRTOOL_SNAPSHOT_IDS >> log; test ! -e bad"]
  on_failure: [sh, -c, "echo failed $DRTOOL_COMMAND $DRTOOL_EXIT_CODE $DRTOOL_MESSAGE >> log"]
"""


def everyday_shell(directory: Path) -> Shell:
    """Create a repository with hooks that write to `log`, and back up once."""
    made = shell_in(directory)
    (made.directory / "tree").mkdir()
    (made.directory / "tree/file").write_text("hello\n")
    assert made("init", *(w for site in "abc" for w in ("--target", f"{site}={made.directory / site}"))).code == 0
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write(CONFIG)
    assert made("backup").code == 0
    log(made)
    return made


def log(shell: Shell) -> list[str]:
    """Return what the hooks wrote since the last call."""
    path = shell.directory / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines
