"""`site-loss`, as it comes with drtool: a disk is gone; files, this host's system and a live database come back from the rest."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from approving import run_approved
from command_shell import shell_in
from postgresql_server import postgresql
from three_sites import fill, noise

__all__ = ["postgresql"]
PLANS = Path(__file__).parents[2] / "plans"


@pytest.fixture(scope="module")
def shell(tmp_path_factory, postgresql):
    """Files, a database with a table `orders`, and this host's system, at three sites; `ops` hears of everything."""
    shell = shell_in(tmp_path_factory.mktemp("loss"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={shell.directory / site}")]
    assert shell("init", *targets).code == 0
    home = fill(shell.directory / "home", {f"ann/{n}": noise(200_000, n) for n in range(4)})
    postgresql.client.ask("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2)", "orders")
    dsn = f"host={postgresql.directory} user=postgres"
    with (shell.directory / "drtool.yaml").open("a") as config:
        config.write(
            f"sources:\n  home: {{paths: [{home}]}}\n  host: {{system: {{}}}}\n"
            f"  orders: {{postgresql: {{dsn: '{dsn}', databases: [orders]}}}}\n"
            f"plans: {PLANS}\n"
            f"notify:\n  channels:\n    ops: {{command: [sh, -c, 'cat >> {shell.directory / 'told'}']}}\n"
        )
    stored = shell("backup", "--json")
    assert stored.code in (0, 3), stored.err  # 3: not everything of a host may be read without root
    assert shell("verify", "--level", "full").code == 0
    return shell


@pytest.mark.thorough
def test_a_site_is_lost_and_everything_comes_back_from_the_others(shell):
    (shell.directory / "c").rename(shell.directory / "c-burnt")
    since = datetime.now(UTC).isoformat(timespec="seconds")
    words = ("plan", "run", "site-loss", "--var", "lost=c", "--incident-at", since, "--json")
    dry = shell(*words, "--dry-run")
    assert (dry.code, dry.document["verdict"]) == (0, "simulated"), dry.out + dry.err
    done, approved = run_approved(shell, shell.directory / "told", *words)
    document = done.document
    steps = {row["id"]: (row["status"], row["detail"]) for row in document["steps"]}
    assert (done.code, document["verdict"], document["unproven"]) == (0, "passed", []), done.out + done.err
    assert approved == ["declare", "accepted"]
    assert "packages and" in steps["host"][1], steps["host"]
    assert "are as recorded" in steps["packages"][1], steps["packages"]
    assert document["objectives"]["rto"]["met"] is document["objectives"]["rpo"]["met"] is True
    assert document["leftovers"] == []
    assert shell("scratch", "list", "--json").document["spaces"] == []
    (shell.directory / "c-burnt").rename(shell.directory / "c")


@pytest.mark.thorough
def test_a_system_whose_packages_are_not_all_back_fails_the_comparison(shell, tmp_path):
    """Read from the restored files, not from the record that came with them."""
    rebuilt = tmp_path / "rebuilt"
    assert shell("restore", "latest", "--source", "host", "--to", str(rebuilt)).code in (0, 3)
    status = rebuilt / "var/lib/dpkg/status"
    if not status.exists():
        pytest.skip("this host has no dpkg")
    paragraphs = status.read_text().split("\n\n")
    (lost,) = [text for text in paragraphs if text.startswith("Package: bash\n")]
    status.write_text("\n\n".join(text for text in paragraphs if text != lost))
    plan = shell.directory / "same.yaml"
    plan.write_text(
        "version: 1\nid: same\ntitle: t\nscope: scratch\nsteps:\n"
        f"  - {{id: same, uses: compare, with: {{left: '{rebuilt}', right: 'recorded:host', what: [packages, units]}}}}\n"
        "  - {id: live, uses: compare, with: {left: 'live:/', right: 'recorded:host', what: [packages]}}\n"
    )
    done = shell("plan", "run", "same.yaml", "--json")
    steps = {row["id"]: (row["status"], row["detail"]) for row in done.document["steps"]}
    assert done.code == 1
    assert steps["same"][0] == "failed"
    assert steps["same"][1].startswith("packages dpkg bash: removed")
    assert steps["live"][0] == "passed", steps


@pytest.mark.parametrize(
    ("source", "why"),
    [("home", "is not of a system"), ("host", "a system is restored as a whole; leave out `paths` and `exclude`")],
)
def test_what_is_no_whole_system_is_told_beforehand(shell, source, why):
    more = "" if source == "home" else "paths: [/etc/passwd], "
    plan = shell.directory / "wrong.yaml"
    plan.write_text(
        "version: 1\nid: wrong\ntitle: t\nscope: scratch\nsteps:\n"
        f"  - {{id: r, uses: restore, with: {{{more}snapshot: {{source: {source}}}, to: {{scratch: true, engine: system}}}}}}\n"
    )
    done = shell("plan", "run", "wrong.yaml", "--dry-run", "--json")
    assert (done.code, why in done.document["steps"][0]["status"] + done.document["steps"][0]["detail"]) == (1, True), (
        done.out
    )


@pytest.mark.thorough
def test_a_host_is_not_held_against_another_one_whose_source_has_the_same_name(shell, tmp_path):
    """Both hosts call their system `host`; the other one was backed up last."""
    other = shell.directory / "other.yaml"
    text = (shell.directory / "drtool.yaml").read_text()
    other.write_text(text.replace("{system: {}}", "{system: {exclude: ['*']}}"))
    mine = shell("snapshots", "--source", "host", "--json").document["snapshots"][-1]["id"]
    assert shell("--config", str(other), "backup", "--source", "host", "--host", "other").code in (0, 3)
    plan = shell.directory / "whose.yaml"
    (tmp_path / "rebuilt").mkdir()
    plan.write_text(
        "version: 1\nid: whose\ntitle: t\nscope: scratch\nsteps:\n"
        "  - {id: live, uses: compare, with: {left: 'live:/', right: 'recorded:host', what: [packages]}}\n"
        f"  - {{id: path, uses: compare, with: {{left: '{tmp_path / 'rebuilt'}', right: 'recorded:host', what: [units]}}}}\n"
    )
    done = shell("plan", "run", "whose.yaml", "--json")
    path, live = sorted(done.document["steps"], key=lambda row: row["id"] == "live")
    assert (live["status"], f"as recorded in snapshot {mine[:8]}" in live["detail"]) == ("passed", True), live
    assert (path["status"], "so the snapshot is ambiguous" in path["detail"]) == ("failed", True), path
