"""This host's system from the command line: backed up, compared, put back; and rebuilt in a copy of this host's files."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_shell import Shell, shell_in

_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> Shell:
    made = shell_in(tmp_path_factory.mktemp("system"))
    targets = [word for site in "abc" for word in ("--target", f"{site}={made.directory / site}")]
    assert made("init", *targets).code == 0
    extra = made.directory / "extra"
    (extra / "kept").mkdir(parents=True)
    (extra / "kept/file").write_text("one")
    (extra / "left.bak").write_text("out")
    with (made.directory / "drtool.yaml").open("a") as config:
        config.write(
            "sources:\n  host: {system: {paths: [extra], exclude: ['*.bak', '/etc/*-']}}\n  extra: {paths: [extra]}\n"
        )
    assert made("backup", "--source", "extra").code == 0
    return made


@pytest.fixture(scope="module")
def stored(shell) -> str:
    """A snapshot of this host; complete only where root takes it."""
    ran = shell("backup", "--source", "host", "--json")
    assert ran.code == (0 if _ROOT else 3), ran.err
    (row,) = ran.document["snapshots"]
    return row["id"]


@pytest.mark.thorough
def test_a_dry_run_tells_what_is_there_and_stores_nothing(shell):
    before = shell("snapshots", "--json").document["snapshots"]
    ran = shell("backup", "--source", "host", "--dry-run", "--json")
    assert ran.code in (0, 3), ran.err
    (row,) = ran.document["snapshots"]
    assert any(fact.endswith(("packages of dpkg", "packages of rpm")) for fact in row["facts"])
    assert shell("snapshots", "--json").document["snapshots"] == before


def test_what_the_snapshot_holds(shell, stored):
    listed = {row["path"] for row in shell("ls", stored, "-R", "--json").document["entries"]}
    assert {"/system/inventory.json", "/system/rebuild.sh", "/etc/passwd", "/usr/lib/os-release"} <= listed
    assert str(shell.directory / "extra/kept/file") in listed
    assert str(shell.directory / "extra/left.bak") not in listed


@pytest.mark.thorough
def test_drift_finds_what_changed_and_nothing_else(shell, stored):
    same = shell("drift", "--what", "files", "--json")
    ours = [row for row in same.document["differences"] if str(shell.directory) in row["name"]]
    assert (same.code, ours) == (0, [])
    extra = shell.directory / "extra"
    (extra / "kept/file").write_text("two")
    (extra / "kept/new").write_text("")
    (extra / "more.bak").write_text("")
    (extra / "kept/file").touch()
    drifted = shell("drift", stored, "--what", "files", "--what", "users", "--check", "--json")
    rows = [row for row in drifted.document["differences"] if str(shell.directory) in row["name"]]
    assert [(row["what"], row["change"], row["name"]) for row in rows] == [
        ("files", "changed", str(extra / "kept/file")),
        ("files", "added", str(extra / "kept/new")),
    ]
    assert drifted.code == 1
    assert set(drifted.document["compared"]) == {"files", "users"}
    told = shell("drift", stored, "--what", "files")
    assert f"  M {extra / 'kept/file'}: its content differs" in told.out
    (extra / "kept/file").write_text("one")
    (extra / "kept/new").unlink()


def test_drift_says_which_snapshots_it_cannot_use(shell, stored):
    ran = shell("drift", "--source", "extra", "--json")
    assert (ran.code, "is not of a system" in ran.error["message"]) == (1, True)
    ran = shell("drift", "--what", "colour", "--json")
    assert (ran.code, "--what colour" in ran.error["message"]) == (2, True)
    ran = shell("drift", "--host", "other", "--json")
    assert ran.code == 1, "no snapshot of that host"


def test_the_script_changes_nothing_unless_told(shell, stored, tmp_path):
    assert shell("restore", stored, "--to", str(tmp_path / "out")).code in (0, 3)
    passwd = Path("/etc/passwd").read_bytes()
    told = subprocess.run(["sh", str(tmp_path / "out/system/rebuild.sh")], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    steps = [line for line in told.stdout.splitlines() if line and not line.startswith(" ") and "!" not in line]
    assert steps == ["repositories", "packages", "extras", "groups", "users", "files", "units", "sysctl"]
    assert Path("/etc/passwd").read_bytes() == passwd


def overlaid(tmp_path, script):
    """Runs a script with a copy of this host's files as its own, which goes with it."""
    if not _ROOT:
        pytest.skip("only root may lay one file system over another")
    (tmp_path / "script").write_text(script)
    mounts = f"""
set -e
place={tmp_path}/over
mkdir -p $place
mount -t tmpfs tmpfs $place
mkdir $place/upper $place/work $place/root
mount -t overlay overlay -o lowerdir=/,upperdir=$place/upper,workdir=$place/work $place/root
mount -t proc proc $place/root/proc
mount --rbind /dev $place/root/dev
mkdir -p $place/root{tmp_path}
mount --bind {tmp_path} $place/root{tmp_path}
exec chroot $place/root sh {tmp_path}/script
"""
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.thorough
def test_a_host_is_rebuilt_from_its_snapshot(shell, tmp_path):
    """In a copy of this host's files: some things are set up, backed up, destroyed, and rebuilt by the script."""
    repository = tmp_path / "repository"
    drtool = f"{sys.executable} -m drtool"
    script = f"""
set -e
export DRTOOL_PASSWORD=correct-horse XDG_CACHE_HOME={tmp_path}/cache XDG_STATE_HOME={tmp_path}/state
groupadd --gid 4711 crew
useradd --no-create-home --uid 4712 --gid crew --comment 'A, B' drtool-ann
printf 'drtool-ann:$6$salt$hash\\n' | chpasswd --encrypted
gpasswd --add drtool-ann adm
mkdir -p /etc/systemd/system/multi-user.target.wants /var/spool/cron/crontabs
echo hello >/etc/drtool-setting
chown drtool-ann /etc/drtool-setting
chmod 640 /etc/drtool-setting
echo '@daily true' >/var/spool/cron/crontabs/drtool-ann
printf '[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/drtool-old.service
systemctl enable drtool-old.service
mkdir {repository}
cd {repository}
{drtool} init --target a={repository}/a >/dev/null
echo 'sources: {{host: {{system: {{}}}}}}' >>drtool.yaml
{drtool} backup
{drtool} drift --check --what users --what groups --what units --what crontabs --what packages

userdel drtool-ann
groupdel crew || true
echo other >/etc/drtool-setting
rm /var/spool/cron/crontabs/drtool-ann
systemctl disable drtool-old.service
rm /etc/systemd/system/drtool-old.service
if {drtool} drift --check >/dev/null; then echo 'no drift seen' && exit 1; fi

{drtool} restore latest --to /srv/rebuilt
sh /srv/rebuilt/system/rebuild.sh
sh /srv/rebuilt/system/rebuild.sh --apply groups users files units
echo '== drift'
{drtool} drift --check --what users --what groups --what units --what crontabs
getent shadow drtool-ann | cut -d: -f2
stat -c '%U %a' /etc/drtool-setting
cat /etc/drtool-setting /var/spool/cron/crontabs/drtool-ann
ls /var/backups/before-rebuild-*/etc/drtool-setting
cat /var/backups/before-rebuild-*/etc/drtool-setting
echo '== again'
sh /srv/rebuilt/system/rebuild.sh users files groups units
"""
    ran = overlaid(tmp_path, script)
    told = ran.stdout + ran.stderr
    assert ran.returncode == 0, told
    before, _, after = ran.stdout.partition("== drift")
    for line in (
        "would run: groupadd --gid 4711 crew",
        "would run: useradd --no-create-home --no-user-group --gid crew",
        "would set the password of drtool-ann",
        "would write /etc/drtool-setting",
        "would write /var/spool/cron/crontabs/drtool-ann",
        "! the home of drtool-ann, /home/drtool-ann, is not here",
    ):
        assert line in before, told
    assert "$6$salt" not in before, "a hash belongs into no output"
    result, _, again = after.partition("== again")
    lines = result.splitlines()
    assert lines[1].startswith("everything is as in snapshot")
    assert lines[2:6] == ["$6$salt$hash", "drtool-ann 640", "hello", "@daily true"]
    assert lines[-1] == "other", "what was there is kept aside"
    assert [line for line in again.splitlines() if "would" in line] == []


def test_packages_come_back_in_their_version_where_they_can_be_had(shell, tmp_path):
    """From a repository of our own on the disk; apt works for real, in a copy of this host's files."""
    if not Path("/usr/bin/dpkg-deb").exists():
        pytest.skip("no dpkg is here")
    made = tmp_path / "packages"
    for name, version in (("drtool-one", "1.0"), ("drtool-one", "2.0"), ("drtool-two", "2.0")):
        control = tmp_path / f"{name}_{version}/DEBIAN/control"
        control.parent.mkdir(parents=True)
        control.write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: d\n"
        )
        made.mkdir(exist_ok=True)
        subprocess.run(["dpkg-deb", "--build", str(control.parents[1]), str(made)], check=True, capture_output=True)
    script = f"""
set -e
rm -f /etc/apt/sources.list.d/* /etc/apt/sources.list
cp -r {made} /srv/packages
chmod -R a+rX /srv/packages
cd /srv/packages
for deb in *.deb; do
  dpkg-deb --field $deb
  printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' $deb $(stat -c %s $deb) $(sha256sum $deb | cut -d' ' -f1)
done >Packages
echo 'deb [trusted=yes] file:/srv/packages ./' >/etc/apt/sources.list.d/ours.list
mkdir -p /old/system /old/etc/apt/sources.list.d
cp /etc/apt/sources.list.d/ours.list /old/etc/apt/sources.list.d/
mv /etc/apt/sources.list.d/ours.list /tmp/away.list
cp {Path(__file__).parents[2]}/drtool/sources/system/rebuild.sh /old/system/
printf 'drtool-one=1.0\\ndrtool-two=1.5\\ndrtool-none=1\\n' >/old/system/packages-manual.txt
echo drtool-one >/old/system/packages-held.txt
sh /old/system/rebuild.sh --apply repositories packages
dpkg-query -W drtool-one drtool-two
apt-mark showhold
"""
    ran = overlaid(tmp_path, script)
    told = ran.stdout + ran.stderr
    assert ran.returncode == 0, told
    lines = ran.stdout.splitlines()
    assert lines[-3:] == ["drtool-one\t1.0", "drtool-two\t2.0", "drtool-one"], told
    assert "  ! drtool-two 1.5 cannot be had any more: the version of today is taken" in lines
    assert "  ! drtool-none 1 cannot be had: is its repository missing?" in lines


SCRIPT = Path(__file__).parents[2] / "drtool/sources/system/rebuild.sh"
LISTS = ("packages-manual.txt", "packages-held.txt", "pip.txt", "npm.txt", "units.txt")


def restored(old, more):
    """The beginning of a script: a snapshot as it was restored into `old`, with what `more` makes of it."""
    return f"""
set -e
mkdir -p '{old}/system' '{old}/etc'
cp {SCRIPT} '{old}/system/rebuild.sh'
cd '{old}/system'
touch {" ".join(LISTS)}
cd ../etc
cp -p /etc/passwd /etc/group /etc/shadow .
{more}
cd /
"""


def test_users_come_back_whatever_else_stands_in_their_files(tmp_path):
    """One line that cannot be carried out must not cost the others theirs."""
    more = r"""
printf 'ghosts:x:4801:nobody-there,*,drtool-last,drtool-ended\nbad name:x:4802:\n+:::\n' >>group
cat >>passwd <<'EOF'
# a remark

+::::::
bad name:x:4810:4801::/:/bin/sh
drtool-ended:x:4811:4801:E:/nowhere:/bin/sh
drtool-locked:x:4812:4801:L:/nowhere:/bin/sh
EOF
printf 'drtool-last:x:4813:4801:L:/nowhere:/bin/sh' >>passwd
printf 'drtool-ended:$6$s$ended:19000:1:90:7:30:19500:\ndrtool-locked:!$6$s$locked:19000:0:99999:7:::\n' >>shadow
printf 'root:$6$s$other:19000:0:99999:7:::\n' >new && grep -v ^root: shadow >>new && mv new shadow
"""
    script = (
        restored("/old one", more)
        + """
set +e
sh '/old one/system/rebuild.sh' groups users >/dry 2>&1
echo "dry $?"
sh '/old one/system/rebuild.sh' --apply groups users
echo "applied $?"
getent passwd drtool-ended drtool-locked drtool-last | cut -d: -f1
getent shadow drtool-ended drtool-locked
id -nG drtool-last
echo '== dry'
cat /dry
"""
    )
    ran = overlaid(tmp_path, script)
    told = ran.stdout + ran.stderr
    assert ran.returncode == 0, told
    lines = ran.stdout.partition("== dry")[0].splitlines()
    assert "dry 0" in lines, told
    assert lines[lines.index("applied 1") + 1 :] == [
        "drtool-ended",
        "drtool-locked",
        "drtool-last",
        "drtool-ended:$6$s$ended:19000:1:90:7:30:19500:",
        "drtool-locked:!$6$s$locked:19000:0:99999:7:::",
        "ghosts",
    ], told
    for line in (
        "  ! there is no user nobody-there, who was in group ghosts",
        "  ! there is no user *, who was in group ghosts",
        "  ! user bad name could not be made",
        "  ! user root keeps the password that is here",
    ):
        assert line in lines, told
    assert "2 of them failed" in ran.stderr


def test_what_would_be_written_is_what_is_written(tmp_path):
    """With names that mean something to a shell; with files that are somebody else's here."""
    more = r"""
mkdir 'a b'
echo 1 >'a b/$(touch x); [y]'
echo 2 >same; cp -p same /etc/same
echo 3 >mode; cp -p mode /etc/mode; chmod 600 mode
ln -s there link
echo 4 >/etc/stays
echo 5 >fstab
useradd --uid 4901 drtool-taker
echo 'drtool-owner:x:4901:0::/:/bin/sh' >>passwd
echo 6 >owned && chown 4901 owned
chmod --reference=/etc .
"""
    script = (
        restored("/o[l]d |one", more)
        + """
sh '/o[l]d |one/system/rebuild.sh' files
echo '== written'
sh '/o[l]d |one/system/rebuild.sh' --apply files >/dev/null
stat -c '%a' /etc/mode
cat '/etc/a b/$(touch x); [y]' /etc/stays
sh '/o[l]d |one/system/rebuild.sh' files | grep would || echo 'nothing is left'
"""
    )
    ran = overlaid(tmp_path, script)
    told = ran.stdout + ran.stderr
    assert ran.returncode == 0, told
    before, _, after = ran.stdout.partition("== written\n")
    would = {line.partition("would write ")[2] for line in before.splitlines() if "would write" in line}
    assert would == {"/etc/a b", "/etc/a b/$(touch x); [y]", "/etc/mode", "/etc/link", "/etc/owned"}, told
    assert "have the uid 4901, which is drtool-taker here and was drtool-owner: look whose they are" in before
    assert after.splitlines() == ["600", "1", "4", "nothing is left"], told


def test_a_snapshot_that_would_give_the_host_away_is_refused(tmp_path):
    """Restored by a user, all of it is his; restored over the host, it would be read while it is written."""
    script = (
        restored("/old", "chown 65534 .")
        + """
cp -r /old/system /system
for script in /old/system/rebuild.sh /system/rebuild.sh; do
  if sh $script --apply groups; then exit 1; fi
done
rm -r /old/etc
if sh /old/system/rebuild.sh; then exit 1; fi
"""
    )
    ran = overlaid(tmp_path, script)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    refused = ran.stderr.splitlines()
    assert [line.split(":")[0] for line in refused] == [
        "/old/etc does not belong to root",
        "what was restored lies over this host already",
        "there is no /old/etc",
    ], ran.stderr


def test_modules_of_python_come_back_for_everybody(tmp_path):
    """Whatever umask the one who rebuilds has; where the distribution wants no pip beside it, too."""
    if subprocess.run(["/usr/bin/python3", "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("the system's Python has no pip")
    name = "drtool_one-1.0"
    with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("drtool_one.py", "")
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: drtool-one\nVersion: 1.0\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    script = (
        restored("/old", "echo drtool-one==1.0 >../system/pip.txt")
        + f"""
umask 077
export PIP_NO_INDEX=1 PIP_FIND_LINKS={tmp_path}
sh /old/system/rebuild.sh --apply extras
file=$(/usr/bin/python3 -c 'import drtool_one; print(drtool_one.__file__)')
stat -c %a $file
"""
    )
    ran = overlaid(tmp_path, script)
    assert (ran.returncode, ran.stdout.splitlines()[-1:]) == (0, ["644"]), ran.stdout + ran.stderr
