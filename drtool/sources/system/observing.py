"""Facts in the files of a system: packages, units, users, crontabs. For this host, or one restored into a directory.

Invariants
    Nothing outside `root` is read, except by the package manager's own programs.
    Links that lead out of `root` are not followed, because links of another host have other targets here.
    Unreadable parts are listed in `questions.lacking`, so that an empty result always means that there is nothing.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
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
_LOGIN = re.compile(r"://[^/\s]+@")
_PASSWORD = re.compile(r"(?i)^(\w*password)\s*=.*")
_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+")
"""The names of systemd units. systemd ignores other names, too."""
_NO_HOST = "not known from files alone"
_TEXT_BYTES_MAX = 16 << 20


def restored_system(root: Path, environ: Mapping[str, str]) -> System:
    """Return the system described by the files below a directory, as far as files describe it."""
    questions = Questions(environ)
    return System(
        hostname=hostname(root, questions),
        os=os_release(root, questions),
        packages=packages(root, questions),
        repositories=repositories(root, questions),
        units=units(root, questions),
        crontabs=crontabs(root, questions),
        users=users(root, questions),
        groups=groups(root, questions),
        lacking={**questions.lacking, **dict.fromkeys(("packages of pip", "packages of npm", "sysctl"), _NO_HOST)},
    )


def packages(root: Path, questions: Questions) -> tuple[Package, ...]:
    """Return the packages of the system's own package manager, sorted."""
    found: list[Package] = []
    known = False
    status = root / DPKG_STATUS
    if _is_inside(root, status) and os.path.isfile(status):
        known = True
        words = ["dpkg-query", f"--admindir={status.parent}", "-W", "-f", _DPKG_FORMAT]
        found += _dpkg(_rows(questions, words, 5))
    for database in _RPM_DATABASES:
        if _listed(root, root / database, questions, "packages"):
            known = True
            words = ["rpm", "--dbpath", str((root / database).resolve()), "-qa", "--qf", _RPM_FORMAT]
            found += _rpm(_rows(questions, words, 3))
            break
    if not known:
        questions.miss("packages", f"there is no database of dpkg or rpm below {root}")
    return tuple(sorted(found, key=lambda package: (package.manager, package.name, package.version)))


def _rows(questions: Questions, argv: list[str], width: int) -> list[list[str]]:
    """Return the rows of a package manager's list, or none if any line is invalid."""
    text = questions.ask("packages", argv) or ""
    rows = [line.split("\t") for line in text.split("\n") if line]
    odd = next((row for row in rows if len(row) != width), None)
    if odd is not None:
        questions.miss("packages", f"{argv[0]} printed {odd[0][:40]!r}, which is not a package")
        return []
    return rows


def _dpkg(rows: list[list[str]]) -> Iterator[Package]:
    for name, version, architecture, want, status in rows:
        if status == "installed":
            yield Package(manager="dpkg", name=name, version=version, architecture=architecture, held=want == "hold")


def _rpm(rows: list[list[str]]) -> Iterator[Package]:
    for name, version, architecture in rows:
        if name != "gpg-pubkey":  # rpm also lists keys as packages
            yield Package(manager="rpm", name=name, version=version, architecture=architecture)


def units(root: Path, questions: Questions) -> dict[str, str]:
    """Return enabled and masked units, from the links that `systemctl enable` and `mask` make."""
    found: dict[str, str] = {}
    for prefix, directory in _UNIT_DIRECTORIES:
        listed = _listed(root, root / directory, questions, "units")
        for path in _links(listed):
            target = os.readlink(path)
            alias = f"alias of {_shown(os.path.basename(target))}"
            found[prefix + path.name] = "masked" if target == "/dev/null" else alias
        for path in listed:
            if path.suffix in (".wants", ".requires"):
                links = _links(_listed(root, path, questions, "units"))
                found |= {prefix + each.name: "enabled" for each in links}
    return dict(sorted(found.items()))


def _links(listed: list[Path]) -> list[Path]:
    return [path for path in listed if os.path.islink(path) and _UNIT_NAME.fullmatch(path.name)]


def crontabs(root: Path, questions: Questions) -> tuple[str, ...]:
    found = _matching(root, _CRONTABS, questions, "crontabs")
    return tuple(_below(root, path) for path in found if path.name != ".placeholder")


def repositories(root: Path, questions: Questions) -> dict[str, tuple[str, ...]]:
    """Return the package repositories, by file."""
    found = _matching(root, _REPOSITORIES, questions, "repositories")
    return {_below(root, path): _lines(root, path, questions) for path in found if _is_inside(root, path)}


def users(root: Path, questions: Questions) -> tuple[User, ...]:
    """Return the users in `/etc/passwd` by number. Users of a directory service are not the host's own."""
    rows = (line.split(":") for line in _text(root, "etc/passwd", questions, "users").split("\n"))
    found = (
        User(name=row[0], uid=int(row[2]), gid=int(row[3]), comment=row[4], home=row[5], shell=row[6])
        for row in rows
        if len(row) == 7 and row[2].isdecimal() and row[3].isdecimal()
    )
    return tuple(sorted(found, key=lambda user: (user.uid, user.name)))


def groups(root: Path, questions: Questions) -> tuple[Group, ...]:
    rows = (line.split(":") for line in _text(root, "etc/group", questions, "groups").split("\n"))
    found = (
        Group(name=row[0], gid=int(row[2]), members=tuple(sorted(filter(None, row[3].split(",")))))
        for row in rows
        if len(row) == 4 and row[2].isdecimal()
    )
    return tuple(sorted(found, key=lambda group: (group.gid, group.name)))


def os_release(root: Path, questions: Questions) -> dict[str, str]:
    """Return `/etc/os-release`, which is usually a link to `/usr/lib`."""
    name = "usr/lib/os-release" if os.path.islink(root / "etc/os-release") else "etc/os-release"
    pairs = (line.partition("=") for line in _text(root, name, questions, "os").split("\n"))
    return {key: value.strip("\"'") for key, equals, value in pairs if equals and key.isidentifier()}


def hostname(root: Path, questions: Questions) -> str:
    return _text(root, "etc/hostname", questions, "hostname").strip()


def _lines(root: Path, path: Path, questions: Questions) -> tuple[str, ...]:
    text = _text(root, str(path.relative_to(root)), questions, "repositories")
    lines = (line.strip() for line in text.split("\n"))
    kept = (line for line in lines if line and not line.startswith("#"))
    return tuple(_PASSWORD.sub(r"\1=***", _LOGIN.sub("://***@", line)) for line in kept)


def _matching(root: Path, patterns: tuple[str, ...], questions: Questions, what: str) -> list[Path]:
    """Return matching entries that are not directories. A link counts, whatever its target is."""
    found: set[Path] = set()
    for pattern in patterns:
        above, _, wanted = pattern.rpartition("/")
        listed = _listed(root, root / above, questions, what)
        found |= {path for path in listed if fnmatchcase(path.name, wanted) and not os.path.isdir(path)}
    return sorted(found)


def _below(root: Path, path: Path) -> str:
    return _shown(f"/{path.relative_to(root)}")


def _shown(name: str) -> str:
    """Return a file name in a form that JSON can hold, because it need not be text."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _listed(root: Path, directory: Path, questions: Questions, what: str) -> list[Path]:
    if not _is_inside(root, directory):
        return []
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        questions.lacking[what] = f"{_below(root, directory)}: {error.strerror}"
        return []


def _is_inside(root: Path, path: Path) -> bool:
    """Return whether a path is within the system. Absolute links of a restored one lead to this host's files."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _text(root: Path, name: str, questions: Questions, what: str) -> str:
    """Return a file's text, or an empty string if it is missing. The walk reports unreadable files."""
    path = root / name
    if not _is_inside(root, path):
        return ""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""
        with path.open("rb") as file:
            return file.read(_TEXT_BYTES_MAX).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        questions.lacking[what] = f"{_below(root, path)}: {error.strerror}"
        return ""
