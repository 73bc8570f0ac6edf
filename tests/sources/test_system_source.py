"""A host's system: its record, the part known from files alone, and that the same host gives the same record."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from three_sites import in_a_child, settle

from drtool.errors import DrtoolError, FormatError
from drtool.operations.backup import SourceJob
from drtool.sources.port import Around
from drtool.sources.system import (
    WHAT,
    SystemSource,
    asking,
    differences,
    lacking,
    observing,
    questions,
    read_system,
    restored_system,
    walked,
)
from drtool.sources.system.questions import Questions
from drtool.sources.system.rebuild import script
from drtool.sources.system.record import Group, Package, System, User

DPKG = """\
Package: held
Status: hold ok installed
Version: 1:2.0-3
Architecture: amd64
Maintainer: somebody
Description: a package

Package: gone
Status: deinstall ok config-files
Version: 9
Architecture: all
Maintainer: somebody
Description: only its settings are left

Package: plain
Status: install ok installed
Version: 0.1
Architecture: all
Maintainer: somebody
Description: a package
"""


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def host(place):
    """The files of a small Debian host."""
    root = place / "host"
    write(
        root,
        {
            "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:Ann,,,:/home/ann:/bin/sh\nbroken line\n",
            "etc/group": "root:x:0:\nann:x:1000:\nstaff:x:50:root,ann\n",
            "etc/hostname": "web1\n",
            "usr/lib/os-release": 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n# no pair\n',
            "etc/crontab": "# empty\n",
            "etc/cron.d/.placeholder": "",
            "var/spool/cron/crontabs/ann": "@daily true\n",
            "etc/apt/sources.list.d/shop.list": "# ours\ndeb https://user:s3cret@deb.example.org/ stable main\n\n",
            "var/lib/dpkg/status": DPKG,
            "usr/lib/systemd/system/web.service": "",
        },
    )
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    units = root / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "multi-user.target.wants/web.service").symlink_to("/usr/lib/systemd/system/web.service")
    (units / "never.service").symlink_to("/dev/null")
    (units / "www.service").symlink_to("/usr/lib/systemd/system/web.service")
    (units / "own.service").write_text("[Unit]\n")
    return root


@pytest.fixture
def quick_programs(tmp_path_factory, monkeypatch):
    """Stand-ins for programs that take a second each: apt-mark, npm and pip."""
    directory = tmp_path_factory.mktemp("programs")
    fake(directory, "apt-mark", "exit 0")
    path = fake(directory, "npm", "echo '{}'")
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(asking, "_HAS_PIP", "print(False)")


def around(tmp_path, problems, **environ):
    return Around(
        state_dir=tmp_path / "state", environ={**os.environ, **environ}, warn=lambda _: None, problem=problems.append
    )


def captured(source, surroundings):
    files = {}
    for file in source.files(surroundings):
        with file.opened() as content:
            files[file.path.decode()] = content.read()
    return files


def test_the_facts_in_files(host):
    system = restored_system(host, dict(os.environ))
    assert system.packages == (
        Package(manager="dpkg", name="held", version="1:2.0-3", architecture="amd64", held=True),
        Package(manager="dpkg", name="plain", version="0.1", architecture="all"),
    )
    assert system.units == {"never.service": "masked", "web.service": "enabled", "www.service": "alias of web.service"}
    assert system.users == (
        User(name="root", uid=0, gid=0, home="/root", shell="/bin/bash", comment="root"),
        User(name="ann", uid=1000, gid=1000, home="/home/ann", shell="/bin/sh", comment="Ann,,,"),
    )
    assert Group(name="staff", gid=50, members=("ann", "root")) in system.groups
    assert system.crontabs == ("/etc/crontab", "/var/spool/cron/crontabs/ann")
    assert system.repositories == {
        "/etc/apt/sources.list.d/shop.list": ("deb https://***@deb.example.org/ stable main",)
    }
    assert (system.hostname, system.os["PRETTY_NAME"]) == ("web1", "Debian GNU/Linux 12")
    assert "sysctl" in system.lacking


def test_links_of_a_restored_system_are_not_followed(host, tmp_path):
    (tmp_path / "elsewhere").write_text("PRETTY_NAME=this-host\n")
    (host / "usr/lib/os-release").unlink()
    (host / "etc/os-release").unlink()
    (host / "etc/os-release").symlink_to(tmp_path / "elsewhere")
    asked = Questions(dict(os.environ))
    assert observing.os_release(host, asked) == {}
    (tmp_path / "cron").mkdir()
    (tmp_path / "cron/this-host").write_text("")
    (host / "etc/cron.daily").symlink_to(tmp_path / "cron")
    (host / "etc/hostname").unlink()
    (host / "etc/hostname").symlink_to("/etc/hostname")
    assert observing.crontabs(host, asked) == ("/etc/crontab", "/var/spool/cron/crontabs/ann")
    assert observing.hostname(host, asked) == ""
    shutil.rmtree(host / "var/lib/dpkg")
    (host / "var/lib/dpkg").symlink_to("/var/lib/dpkg")
    assert observing.packages(host, asked) == (), "this host's packages are not those of the restored one"


def test_strange_files_are_skipped_or_reported(host):
    os.close(os.open(os.fsencode(host) + b"/etc/cron.d/caf\xe9", os.O_CREAT))
    (host / "etc/cron.d/linked").symlink_to("/opt/shop/crontab")
    (host / "etc/systemd/system/multi-user.target.wants/a b.service").symlink_to("/x")
    (host / "etc/hostname").unlink()
    os.mkfifo(host / "etc/hostname")
    (host / "etc/group").unlink()
    (host / "etc/group").symlink_to("group")
    (host / "etc/passwd").write_bytes(b"caf\xe9:x:7:7:A\x0bB\xe2\x80\xa8C:/:/bin/sh")
    (host / "usr/lib/os-release").unlink()
    (host / "usr/lib/os-release").mkdir()
    system = read_system(restored_system(host, dict(os.environ)).encoded())
    assert {"/etc/cron.d/caf\\xe9", "/etc/cron.d/linked"} <= set(system.crontabs)
    assert [user.uid for user in system.users] == [7]
    assert (system.hostname, system.os) == ("", {})
    assert "a b.service" not in system.units, "systemd does not treat it as a unit"


def test_unreadable_files_are_unknown_not_empty(host, as_nobody):
    for name in ("etc/cron.d", "etc/systemd/system/multi-user.target.wants", "etc/group"):
        (host / name).chmod(0)
    opened(host)
    text = as_nobody(
        "import os, sys; from pathlib import Path; from drtool.sources.system import restored_system",
        f"sys.stdout.buffer.write(restored_system(Path({str(host)!r}), dict(os.environ)).encoded())",
    )
    found = read_system(text)
    assert {"crontabs", "units", "groups"} <= set(found.lacking)
    recorded = System(units={"web.service": "enabled"}, crontabs=("/etc/cron.d/shop",))
    assert list(differences(recorded, found, ("units", "crontabs", "groups"))) == []
    assert set(lacking(recorded, found, ("units", "crontabs", "groups"))) == {"units", "crontabs", "groups"}


def opened(directory):
    """Make the parent directories accessible to others."""
    for each in (directory, *directory.parents):
        if each.stat().st_uid == os.geteuid() and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o755)


@pytest.fixture
def as_nobody():
    """Run Python as another user without permissions, or as this one if this one is not root."""

    def run(*lines):
        become = "import os; os.geteuid() or (os.setgid(65534), os.setuid(65534))"
        words = [sys.executable, "-c", "\n".join((lines[0], become, *lines[1:]))]
        return subprocess.run(words, check=True, capture_output=True).stdout

    return run


def test_secrets_of_repositories_are_left_out(tmp_path):
    text = "[a]\nbaseurl=https://ann@example.org:s3cret@example.org/\nproxy_password = s3cret\npassword=s3cret\n"
    write(tmp_path, {"etc/yum.repos.d/a.repo": text})
    ((_, lines),) = observing.repositories(tmp_path, Questions({})).items()
    assert lines == ("[a]", "baseurl=https://***@example.org/", "proxy_password=***", "password=***")


def test_kernel_secrets_are_left_out_and_settings_of_root_are_counted(place, as_nobody):
    opened(place)
    keys = ("net/ipv4/tcp_fastopen_key", "net/ipv6/conf/default/stable_secret", "net/core/netdev_rss_key")
    write(place / "sys", {**dict.fromkeys(keys, "s3cret"), "vm/swappiness": "60", "fs/protected": "1", "vm/do": ""})
    (place / "sys/vm/do").chmod(0o200)
    asked = Questions({})
    assert asking.settings(place / "sys", asked).keys() >= {"fs/protected", "vm/swappiness"}
    assert not {*keys} & asking.settings(place / "sys", asked).keys()
    assert asked.lacking == {}
    (place / "sys/fs/protected").chmod(0o600)
    told = as_nobody(
        "from pathlib import Path; from drtool.sources.system import asking, questions; q = questions.Questions({})",
        f"asking.settings(Path({str(place / 'sys')!r}), q); print(q.lacking)",
    )
    assert told == b"{'settings of root': '1 kernel settings may be read by root only'}\n"
    recorded = System(sysctl={"fs/protected": "1"})
    found = System(sysctl={}, lacking={"settings of root": "why"})
    assert (list(differences(recorded, found)), set(lacking(recorded, found))) == ([], {"settings of root"})


@pytest.mark.parametrize(
    ("program", "answer", "what"),
    [
        ("ip", '[{"ifname":"a"},{"mtu":1},{"ifname":"b","addr_info":[{}]}]', None),
        ("ip", "{}", "addresses"),
        ("ip", "", "addresses"),
        ("lsblk", "{}", None),
        ("lsblk", '{"blockdevices":[{"name":"a"},{"name":"b","kname":"b","type":"disk","size":5}]}', None),
        ("lsblk", "[]", "storage"),
        ("npm", '{"error":{"code":"EACCES"}}', "packages of npm"),
        ("npm", "[]", "packages of npm"),
        ("dpkg-query", "odd", "packages"),
    ],
)
@pytest.mark.usefixtures("quick_programs")
@pytest.mark.spread(4)
def test_a_strange_answer_is_understood_or_reported(tmp_path, program, answer, what):
    told = []
    path = fake(tmp_path / "bin", program, f"cat <<'E'\n{answer}\nE")
    asked = Questions({**os.environ, "PATH": path}, lambda *row: told.append(row[0]))
    system = asking.system_of(Path("/"), asked)
    dict(asking.texts(system, asked))
    assert (what in told) if what else (told == [])
    assert read_system(system.encoded()) == system


def test_arrays_have_partition_tables_too(tmp_path):
    part = {"kname": "md0p1", "type": "part", "pttype": "gpt"}
    array = {"kname": "md0", "type": "raid1", "pttype": "gpt", "children": [part]}
    disks = [{"kname": name, "type": "disk", "pttype": None, "children": [array]} for name in ("sda", "sdb")]
    path = fake(tmp_path / "bin", "sfdisk", 'echo "table of $2"')
    fake(tmp_path / "bin", "mdadm", "echo array")
    found = dict(asking.texts(System(storage=disks), Questions({**os.environ, "PATH": path})))
    assert found == {"storage/md0.sfdisk": "table of /dev/md0\n", "storage/mdadm.conf": "array\n"}


def test_no_module_of_the_working_directory_runs(tmp_path, monkeypatch):
    """A user in another user's directory must not run code from there."""
    for name in ("pip", "json", "importlib"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    asking._python(Questions(dict(os.environ)))
    assert not (tmp_path / "ran").exists()


def test_a_database_of_rpm(tmp_path):
    """A database made by rpm itself, with one package."""
    if subprocess.run(["which", "rpmbuild"], capture_output=True, check=False).returncode:
        if os.environ.get("CI"):
            pytest.fail("rpm is not installed")
        pytest.skip("rpm is not installed")
    spec = tmp_path / "small.spec"
    spec.write_text(
        "Name: small\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: s\nLicense: MIT\nBuildArch: noarch\n"
        "%description\nd\n%files\n"
    )
    home = f"_topdir {tmp_path / 'build'}"
    subprocess.run(["rpmbuild", "-bb", "--quiet", "--define", home, str(spec)], check=True, capture_output=True)
    (package,) = (tmp_path / "build").rglob("*.rpm")
    root = tmp_path / "root"
    database = root / "var/lib/rpm"
    database.mkdir(parents=True)
    words = ["rpm", "--dbpath", str(database), "--install", "--justdb", "--nodeps", str(package)]
    subprocess.run(words, check=True, capture_output=True)
    found = observing.packages(root, Questions(dict(os.environ)))
    assert found == (Package(manager="rpm", name="small", version="4:1.2-3", architecture="noarch"),)


def test_a_host_without_a_known_package_manager_is_reported(tmp_path):
    told = []
    asked = Questions(dict(os.environ), lambda *row: told.append(row))
    assert observing.packages(tmp_path, asked) == ()
    assert [what for what, _ in told] == ["packages"]
    assert "no database of dpkg or rpm" in asked.lacking["packages"]


@pytest.mark.parametrize("programs", ["quick", pytest.param("real", marks=pytest.mark.thorough)])
def test_this_host_gives_the_same_record_again(tmp_path, request, programs):
    problems = []
    if programs == "quick":
        request.getfixturevalue("quick_programs")
    first = captured(SystemSource(), around(tmp_path, problems))
    assert captured(SystemSource(), around(tmp_path, problems)) == first
    system = read_system(first["/system/inventory.json"])
    assert system.sysctl["kernel/ostype"] == "Linux"
    assert {user.name for user in system.users} >= {"root"}
    if Path("/var/lib/dpkg/status").exists():
        listed = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}\n"], capture_output=True, check=True)
        count = listed.stdout.split(b"\n").count(b"installed")
        assert sum(package.manager == "dpkg" for package in system.packages) == count
        manual = first["/system/packages-manual.txt"].count(b"\n")
        assert (manual > 0, manual <= count) == (programs == "real", True)
    assert list(differences(system, asking.present_system(dict(os.environ)))) == []
    assert next(iter(json.loads(first["/system/inventory.json"]))) == "drtool"


def fake(directory, name, text):
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo no such device >&2; exit 32", "lsblk failed with exit code 32: no such device"),
        ("echo nonsense", "lsblk did not print JSON"),
        ("touch asked; sleep 60", "lsblk gave no answer within 120 s"),
    ],
)
@pytest.mark.usefixtures("quick_programs")
@pytest.mark.spread(3)
def test_a_program_that_does_not_answer_makes_the_backup_incomplete(world, tmp_path, monkeypatch, text, why):
    asked = tmp_path / "asked"
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 130.0 * asked.exists())
    monkeypatch.setattr(questions, "time", clock)  # two minutes pass while it sleeps
    text = text.replace("asked", str(asked))
    path = fake(tmp_path / "bin", "lsblk", text)
    job = SourceJob(name="host", captured=SystemSource())
    with world.open() as repository:
        (report,) = world.run_jobs(repository, job, environ={**os.environ, "PATH": path}).snapshots
    assert [(error.path, error.message) for error in report.errors] == [("/system/storage", why)]
    assert world.restore(tmp_path / "out").errors == []
    system = read_system((tmp_path / "out/system/inventory.json").read_bytes())
    assert system.lacking["storage"] == why
    assert system.packages, "the rest is recorded"


def test_a_missing_program_is_named_in_the_record_and_is_not_a_failure(tmp_path):
    """A container has no disks to list."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dpkg-query", "ip"):
        if Path("/usr/bin", name).exists():
            (tools / name).symlink_to(Path("/usr/bin", name))
    asked = Questions({"PATH": str(tools)})
    asked._environ["PATH"] = str(tools)  # without the directories that are always searched
    system = asking.system_of(Path("/"), asked)
    assert system.lacking["storage"] == "there is no program lsblk"
    assert system.storage is None


@pytest.mark.usefixtures("quick_programs")
def test_a_snapshot_has_the_files_and_a_script(world, host, tmp_path):
    settle(host)
    job = SourceJob(name="host", captured=SystemSource(), paths=tuple(map(os.fsencode, walked(host))))
    with world.open() as repository:
        (report,) = world.run_jobs(repository, job, environ=dict(os.environ)).snapshots
        again = world.run_jobs(repository, job, environ=dict(os.environ)).snapshots[0]
    assert report.errors == []
    assert (again.files.new, again.files.changed) == (0, 0), "nothing has changed"
    out = tmp_path / "out"
    assert world.restore(out).errors == []
    assert (out / "system/rebuild.sh").stat().st_mode & 0o777 == 0o700
    assert (out / str(host).lstrip("/") / "var/spool/cron/crontabs/ann").read_text() == "@daily true\n"
    told = subprocess.run(
        ["sh", str(out / "system/rebuild.sh"), "nonsense"], capture_output=True, text=True, check=False
    )
    assert (told.returncode, "there is no step nonsense" in told.stderr) == (2, True)


def test_a_name_cannot_become_a_line_of_the_script():
    system = System(hostname="web1\nrm -rf /", os={"PRETTY_NAME": "x\r\nreboot"}, architecture="a")
    lines = script(system).decode().splitlines()
    assert lines[1] == "# Rebuild of web1?rm -rf /: x??reboot, a."
    assert not any("@" in line and "HOST" in line for line in lines)


packages = st.builds(
    Package,
    manager=st.sampled_from(["dpkg", "rpm", "pip"]),
    name=st.sampled_from(["a", "b", "c"]),
    version=st.sampled_from(["1", "2"]),
)
systems = st.builds(
    System,
    packages=st.lists(packages, max_size=4, unique_by=lambda each: (each.manager, each.name)).map(tuple),
    units=st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["enabled", "masked"])),
    sysctl=st.dictionaries(st.sampled_from(["k/a", "k/b"]), st.sampled_from(["0", "1"])),
    lacking=st.sampled_from([{}, {"packages of pip": "why"}]),
)


@given(systems, systems)
def test_differences_are_those_of_the_sets(recorded, found):
    rows = {(row.what, row.change, row.name) for row in differences(recorded, found)}
    blind = "packages of pip" in recorded.lacking or "packages of pip" in found.lacking
    before = {f"{p.manager} {p.name}": p.version for p in recorded.packages if not (blind and p.manager == "pip")}
    after = {f"{p.manager} {p.name}": p.version for p in found.packages if not (blind and p.manager == "pip")}
    expected = {("packages", "removed", name) for name in before.keys() - after.keys()}
    expected |= {("packages", "added", name) for name in after.keys() - before.keys()}
    expected |= {("packages", "changed", n) for n in before.keys() & after.keys() if before[n] != after[n]}
    assert {row for row in rows if row[0] == "packages"} == expected
    assert bool(lacking(recorded, found)) == blind
    assert not [row for row in rows if row[:2] == ("sysctl", "added")], "a newer kernel has more settings"
    assert list(differences(recorded, recorded)) == []


def test_each_kind_of_drift_is_reported_with_both_sides():
    recorded = System(
        packages=(Package(manager="dpkg", name="web", version="1", held=True),),
        units={"web.service": "enabled"},
        users=(User(name="ann", uid=1000, gid=1000, home="/home/ann", shell="/bin/sh"),),
        groups=(Group(name="staff", gid=50, members=("ann",)),),
        crontabs=("/etc/crontab",),
        repositories={"/etc/apt/x.list": ("deb a",)},
        sysctl={"vm/swappiness": "60"},
    )
    found = System(
        packages=(Package(manager="dpkg", name="web", version="2"),),
        units={},
        users=(User(name="ann", uid=1001, gid=1000, home="/home/ann", shell="/bin/sh"),),
        groups=(Group(name="staff", gid=50),),
        crontabs=(),
        repositories={"/etc/apt/x.list": ("deb b",)},
        sysctl={"vm/swappiness": "10"},
    )
    rows = {row.what: (row.change, row.detail) for row in differences(recorded, found)}
    assert rows == {
        "packages": ("changed", "2; 1, held was recorded"),
        "units": ("removed", "enabled was recorded"),
        "users": (
            "changed",
            "uid 1001, gid 1000, home /home/ann, shell /bin/sh; uid 1000, gid 1000, home /home/ann, shell /bin/sh was recorded",
        ),
        "groups": ("changed", "gid 50; gid 50, with ann was recorded"),
        "crontabs": ("removed", ""),
        "repositories": ("changed", "deb b; deb a was recorded"),
        "sysctl": ("changed", "10; 60 was recorded"),
    }
    assert set(rows) == set(WHAT)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"drtool":"system","format":2}', b'{"drtool":"redis","format":1}'])
def test_an_invalid_record_is_refused(text):
    with pytest.raises(FormatError):
        read_system(text)


def test_drift_from_a_snapshot_of_something_else_is_refused(world, tmp_path):
    from drtool.operations.drift import drift

    (tmp_path / "src").mkdir()
    (tmp_path / "src/f").write_text("x")
    world.backup(tmp_path / "src")
    with world.open() as repository, pytest.raises(DrtoolError, match="is not of a system"):
        drift(repository, next(iter(repository.view.state.snapshots)), dict(os.environ))


@pytest.mark.usefixtures("quick_programs")
def test_drift_reports_what_it_could_not_compare(world):
    """With every kind of entry: not captured, not readable, and in no snapshot."""
    from drtool.operations.drift import drift

    script(System())  # load the modules that the child needs, whatever its user is
    top = world.root / "top"
    write(top, {"closed/file": "x", "lost": "x", "same": "x"})
    job = SourceJob(name="host", captured=SystemSource(), paths=(os.fsencode(top),))
    (top / "lost").chmod(0)

    def backed_up():
        with world.open() as repository:
            world.run_jobs(repository, job, environ=dict(os.environ))

    def drifted():
        (top / "lost").chmod(0o644)
        (top / "closed").chmod(0)
        with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(top):
            listening.bind("socket")
            with world.open() as repository:
                found = drift(repository, next(iter(repository.view.state.snapshots)), {}, what=("files",))
        rows = [(row.change, os.path.basename(row.name)) for row in found.differences]
        assert rows == [("changed", "closed")], "its mode; unreadable entries are neither removed nor unchanged"
        told = {os.path.relpath(row.what, top) for row in found.unknown}
        assert told == {"lost", "closed", "closed/file"}
        assert found.compared == {"files": 3}, "top, closed as a name, same"

    def both():
        backed_up()
        drifted()

    if os.geteuid() == 0:
        opened(world.root)
        subprocess.run(["chown", "-R", "65534", str(world.root)], check=True)
    assert in_a_child(both, uid=65534 if os.geteuid() == 0 else None) == 0


@pytest.mark.usefixtures("quick_programs")
def test_a_source_of_the_whole_system_has_no_drift_of_its_own(world):
    """`paths: [/]` includes the record itself and the package database, which are not compared as files."""
    from drtool.operations.drift import PACKAGE_DATABASES, _Files

    database = os.fsdecode(PACKAGE_DATABASES[0])
    if not os.path.exists(database):
        pytest.skip("no dpkg is here")
    job = SourceJob(
        name="host",
        captured=SystemSource(),
        paths=(os.path.dirname(os.fsencode(database)),),
        excludes=("/var/lib/dpkg/*/",),
    )
    with world.open() as repository:
        world.run_jobs(repository, job, environ=dict(os.environ))
        snapshot = next(iter(repository.view.state.snapshots))
        repository.load_index()
        files = _Files(repository, msgspec.structs.replace(snapshot, paths=(b"/system", b"/")), ())
        assert [row.name for row in files.differences() if row.name.startswith(("/system", database))] == []
