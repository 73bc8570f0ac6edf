"""What the files of a system tell of it: packages, units, users, crontabs. Of this host, or of one that was restored into a
directory, by the same means.

Invariants
    Nothing outside of `root` is read, but by the package manager's own programs.
    Links that lead out of `root` are not followed: those of another host lead elsewhere here.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from drtool.sources.system.questions import Questions
from drtool.sources.system.record import Group, Package, System, User

DPKG_STATUS = "var/lib/dpkg/status"
PACKAGE_DATABASES = (f"/{DPKG_STATUS}".encode(), b"/var/lib/apt/extended_states")
_RPM_DATABASES = ("var/lib/rpm", "usr/lib/sysimage/rpm")
_DPKG_FORMAT = "${binary:Package}\t${Version}\t${Architecture}\t${db:Status-Want}\t${db:Status-Status}\n"
_RPM_FORMAT = "%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\t%{ARCH}\n"
_UNIT_DIRECTORIES = (("", "etc/systemd/system"), ("user/", "etc/systemd/user"))
_CRONTABS = (
    "etc/crontab",
    "etc/anacrontab",
    "etc/cron.d/*",
    "etc/cron.hourly/*",
    "etc/cron.daily/*",
    "etc/cron.weekly/*",
    "etc/cron.monthly/*",
    "var/spool/cron/*",
    "var/spool/cron/crontabs/*",
)
_REPOSITORIES = (
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/*.list",
    "etc/apt/sources.list.d/*.sources",
    "etc/yum.repos.d/*.repo",
    "etc/zypp/repos.d/*.repo",
)
_LOGIN = re.compile(r"://[^/@\s]+@")
_NO_HOST = "files alone do not tell"
_TEXT_BYTES_MAX = 16 << 20


def restored_system(root: Path, environ: Mapping[str, str]) -> System:
    """What the files below a directory tell of the system that they are of: no more than they can."""
    questions = Questions(environ)
    return System(
        hostname=hostname(root),
        os=os_release(root),
        packages=packages(root, questions),
        repositories=repositories(root),
        units=units(root),
        crontabs=crontabs(root),
        users=users(root),
        groups=groups(root),
        lacking={**questions.lacking, **dict.fromkeys(("packages of pip", "packages of npm", "sysctl"), _NO_HOST)},
    )


def packages(root: Path, questions: Questions) -> tuple[Package, ...]:
    """Those of the system's own package manager, sorted."""
    found: list[Package] = []
    known = False
    if (root / DPKG_STATUS).is_file():
        known = True
        text = questions.ask(
            "packages", ["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "-W", "-f", _DPKG_FORMAT]
        )
        found += _dpkg(text or "")
    for database in _RPM_DATABASES:
        if (root / database).is_dir() and any((root / database).iterdir()):
            known = True
            words = ["rpm", "--dbpath", str((root / database).resolve()), "-qa", "--qf", _RPM_FORMAT]
            found += _rpm(questions.ask("packages", words) or "")
            break
    if not known:
        questions.miss("packages", f"neither dpkg's nor rpm's database is below {root}")
    return tuple(sorted(found, key=lambda package: (package.manager, package.name, package.version)))


def _dpkg(text: str) -> Iterator[Package]:
    for line in text.splitlines():
        name, version, architecture, want, status = line.split("\t")
        if status == "installed":
            yield Package(manager="dpkg", name=name, version=version, architecture=architecture, held=want == "hold")


def _rpm(text: str) -> Iterator[Package]:
    for line in text.splitlines():
        name, version, architecture = line.split("\t")
        if name != "gpg-pubkey":  # a key, which rpm lists among the packages
            yield Package(manager="rpm", name=name, version=version, architecture=architecture)


def units(root: Path) -> dict[str, str]:
    """What systemd was told to start, and not to start: by the links that `systemctl enable` and `mask` make."""
    found: dict[str, str] = {}
    for prefix, directory in _UNIT_DIRECTORIES:
        for path in _listed(root, root / directory):
            if path.is_symlink():
                target = os.readlink(path)
                alias = f"alias of {os.path.basename(target)}"
                found[prefix + path.name] = "masked" if target == "/dev/null" else alias
        for path in _listed(root, root / directory):
            if path.suffix in (".wants", ".requires") and path.is_dir():
                found |= {prefix + each.name: "enabled" for each in _listed(root, path) if each.is_symlink()}
    return dict(sorted(found.items()))


def crontabs(root: Path) -> tuple[str, ...]:
    return tuple(_below(root, path) for path in _matching(root, _CRONTABS) if path.name != ".placeholder")


def repositories(root: Path) -> dict[str, tuple[str, ...]]:
    """Where packages come from, by file."""
    return {_below(root, path): _lines(root, path) for path in _matching(root, _REPOSITORIES)}


def users(root: Path) -> tuple[User, ...]:
    """By number, of `/etc/passwd`; what a directory service adds is not the host's own."""
    rows = (line.split(":") for line in _text(root, root / "etc/passwd").splitlines())
    found = (
        User(name=row[0], uid=int(row[2]), gid=int(row[3]), comment=row[4], home=row[5], shell=row[6])
        for row in rows
        if len(row) == 7 and row[2].isdecimal() and row[3].isdecimal()
    )
    return tuple(sorted(found, key=lambda user: (user.uid, user.name)))


def groups(root: Path) -> tuple[Group, ...]:
    rows = (line.split(":") for line in _text(root, root / "etc/group").splitlines())
    found = (
        Group(name=row[0], gid=int(row[2]), members=tuple(sorted(filter(None, row[3].split(",")))))
        for row in rows
        if len(row) == 4 and row[2].isdecimal()
    )
    return tuple(sorted(found, key=lambda group: (group.gid, group.name)))


def os_release(root: Path) -> dict[str, str]:
    """Of `/etc/os-release`, which most systems have as a link to `/usr/lib`."""
    path = root / "etc/os-release"
    text = _text(root, root / "usr/lib/os-release" if path.is_symlink() else path)
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value.strip("\"'") for key, equals, value in pairs if equals and key.isidentifier()}


def hostname(root: Path) -> str:
    return _text(root, root / "etc/hostname").strip()


def _lines(root: Path, path: Path) -> tuple[str, ...]:
    lines = (line.strip() for line in _text(root, path).splitlines())
    return tuple(_LOGIN.sub("://***@", line) for line in lines if line and not line.startswith("#"))


def _matching(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    found = {path for pattern in patterns for path in root.glob(pattern)}
    return sorted(path for path in found if path.is_file() and _is_inside(root, path))


def _below(root: Path, path: Path) -> str:
    return f"/{path.relative_to(root)}"


def _listed(root: Path, directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() and _is_inside(root, directory) else []


def _is_inside(root: Path, path: Path) -> bool:
    """Whether it is the system's own: absolute links of a restored one lead to this host's files."""
    return path.resolve().is_relative_to(root.resolve())


def _text(root: Path, path: Path) -> str:
    """Empty where there is none: a host need not have it. A file that may not be read is the walk's to report."""
    if not _is_inside(root, path):
        return ""
    try:
        with path.open("rb") as file:
            return file.read(_TEXT_BYTES_MAX).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
