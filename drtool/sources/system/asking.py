"""Facts of the running host that files do not contain: marks of packages, kernel, sysctl, disks, network.

Invariants
    Nothing is changed or mounted, and no secret is queried.
    Volatile values are left out: counters, random ids, interfaces of containers.
"""

import os
import platform
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from drtool.sources.system import observing
from drtool.sources.system.questions import Questions
from drtool.sources.system.record import SETTINGS_OF_ROOT, Package, System

_LSBLK = "NAME,KNAME,TYPE,SIZE,FSTYPE,LABEL,UUID,PARTTYPE,PARTLABEL,PARTUUID,PTTYPE,PTUUID,MOUNTPOINT,MODEL,SERIAL"
_EPHEMERAL_DEVICES = "1,7,43"
"""By major number: RAM disks, loops, network block devices."""
_VOLATILE = re.compile(
    r"fs/(aio-nr|dentry-state|file-nr|inode-nr|inode-state|quota/.*|binfmt_misc/.*)"
    r"|kernel/(ns_last_pid|perf_event_max_sample_rate|random/.*|pty/nr|sched_domain/.*|tainted|printk_delay|cad_pid"
    r"|hostname|osrelease|version|bootloader_.*|firmware_config/.*|keys/.*|threads-max|spl/.*)"
    r"|net/(netfilter/nf_conntrack_count|.*/(conf|neigh)/(?!all/|default/).*|ipv4/route/.*|core/.*/instances)"
    r"|vm/(drop_caches|stat_refresh|compact_memory)|dev/cdrom/info|sunrpc/transports"
)
_SECRET = re.compile(r"net/(ipv4/tcp_fastopen_key|ipv6/conf/.*/stable_secret|core/netdev_rss_key)")
_AUTOMOUNTED = "fs/binfmt_misc"
_HAS_PIP = "import importlib.util; print(importlib.util.find_spec('pip') is not None)"
_LVM = {
    "pvs": "pv_name,pv_uuid,pv_size,vg_name",
    "lvs": "vg_name,lv_name,lv_uuid,lv_size,lv_layout,pool_lv,devices",
}
_BLOCK_DEVICES = Path("/sys/dev/block")
_IPV6 = Path("/proc/net/if_inet6")
_SETTING_BYTES_MAX = 4096
_VIRTUAL_INTERFACE = re.compile(r"lo|veth.*|docker.*|br-[0-9a-f]{12}|cali.*|cni.*|virbr.*|vnet.*")
_T = TypeVar("_T")


class _Address(Struct):
    """An address as `ip` prints it; the next classes likewise. Fields that a version of it omits are empty."""

    local: str = ""
    prefixlen: int = 0
    scope: str = ""
    temporary: bool = False


class _Link(Struct):
    ifname: str = ""
    address: str = ""
    mtu: int | None = None
    addr_info: list[_Address] = []


class _Module(Struct):
    """A module in the output of `pip list`."""

    name: str
    version: str
    location: str | None = None


class _NodePackage(Struct):
    version: str = ""


class _NodePackages(Struct):
    """The output of `npm ls`."""

    dependencies: dict[str, _NodePackage] = {}
    error: Any = None


def present_system(environ: Mapping[str, str]) -> System:
    """Return this host as it is now. Facts that could not be determined are in `lacking`."""
    return system_of(Path("/"), Questions(environ))


def system_of(root: Path, questions: Questions) -> System:
    """Return all facts of a running host."""
    found = (*observing.packages(root, questions), *_python(questions), *_node(questions))
    return System(
        hostname=observing.hostname(root, questions) or platform.node(),
        os=observing.os_release(root, questions),
        kernel=platform.release(),
        architecture=platform.machine(),
        firmware="uefi" if Path("/sys/firmware/efi").is_dir() else "bios",
        command_line=_read(Path("/proc/cmdline")) or "",
        packages=tuple(_marked(found, questions)),
        repositories=observing.repositories(root, questions),
        units=observing.units(root, questions),
        crontabs=observing.crontabs(root, questions),
        users=observing.users(root, questions),
        groups=observing.groups(root, questions),
        sysctl=settings(Path("/proc/sys"), questions),
        storage=_devices(questions),
        network=_network(questions),
        lacking=dict(sorted(questions.lacking.items())),
    )


def texts(system: System, questions: Questions) -> Iterator[tuple[str, str]]:
    """Yield (name, content) of dumps that their own programs can read: partitions, volumes, arrays, boot entries."""
    for disk in sorted(set(_partitioned(system.storage or ()))):
        if table := questions.ask(f"partitions of {disk}", ["sfdisk", "--dump", f"/dev/{disk}"]):
            yield f"storage/{disk}.sfdisk", table
    kinds = {str(device.get("type")) for device in _walked(system.storage or ())}
    if "lvm" in kinds:  # the description of the volume groups is in /etc/lvm/backup
        for name, columns in _LVM.items():
            words = [name, "--reportformat", "json", "--units", "b", "--options", columns]
            if report := questions.ask(f"volumes: {name}", words):
                yield f"storage/{name}.json", report
    if any(kind.startswith("raid") for kind in kinds) and (
        arrays := questions.ask("arrays", ["mdadm", "--detail", "--scan"])
    ):
        yield "storage/mdadm.conf", arrays
    if system.firmware == "uefi" and (entries := questions.ask("boot entries", ["efibootmgr", "--verbose"])):
        yield "boot/efibootmgr.txt", entries


def _marked(found: tuple[Package, ...], questions: Questions) -> Iterator[Package]:
    """Yield packages with their marks of manual installation, or all marked if that is unknown."""
    managers = {package.manager for package in found}
    manual: dict[str, set[str] | None] = {}
    if "dpkg" in managers:
        manual["dpkg"] = _words(questions.ask("manual marks", ["apt-mark", "showmanual"]))
    if "rpm" in managers:
        words = ["dnf", "--quiet", "--cacheonly", "repoquery", "--userinstalled", "--queryformat", "%{name}\\n"]
        manual["rpm"] = _words(questions.ask("manual marks", words))
    for package in found:
        names = manual.get(package.manager)
        marked = names is None or package.name in names or package.name.partition(":")[0] in names
        yield msgspec.structs.replace(package, manual=True) if marked else package


def _words(text: str | None) -> set[str] | None:
    return None if text is None else set(text.split())


def _python(questions: Questions) -> list[Package]:
    """Return the modules that pip installed beside the distribution's own ones, in the system's Python."""
    program = next((each for each in ("/usr/bin/python3", "python3") if questions.has(each)), "")
    what = "packages of pip"
    if not program or (questions.ask(what, [program, "-c", _HAS_PIP]) or "").strip() != "True":
        return []  # without pip there are none
    words = [program, "-m", "pip", "--disable-pip-version-check", "list", "--verbose", "--format=json"]
    found = [
        Package(manager="pip", name=row.name, version=row.version)
        for row in _read_as(list[_Module], questions, what, words) or ()
        if not (row.location or "").startswith("/usr/lib/")  # modules of the distribution, which are packages
    ]
    return sorted(found, key=lambda package: package.name)


def _node(questions: Questions) -> list[Package]:
    if not questions.has("npm"):
        return []
    what = "packages of npm"
    # npm exits with 1 if a dependency is unmet, but its list is complete
    words = ["npm", "ls", "--global", "--depth=0", "--json"]
    listed = _read_as(_NodePackages, questions, what, words, success=(0, 1)) or _NodePackages()
    if listed.error is not None and not listed.dependencies:
        questions.miss(what, f"npm lists nothing: {listed.error}"[:200])
    return [
        Package(manager="npm", name=name, version=row.version)
        for name, row in sorted(listed.dependencies.items())
        if row.version
    ]


def settings(directory: Path, questions: Questions) -> dict[str, str]:
    """Return the kernel's settings by name (with slashes), without secrets. Those that only root may read are counted."""
    found: dict[str, str] = {}
    closed = 0
    for above, below, names in os.walk(directory):
        below[:] = [name for name in below if str(Path(above, name).relative_to(directory)) != _AUTOMOUNTED]
        for name in names:
            path = Path(above, name)
            key = str(path.relative_to(directory))
            if _VOLATILE.fullmatch(key) or _SECRET.fullmatch(key):
                continue
            value = _read(path)
            if value is not None:
                found[key] = value
            closed += value is None and not os.access(path, os.R_OK) and bool(path.stat().st_mode & stat.S_IRUSR)
    if closed:
        questions.lacking[SETTINGS_OF_ROOT] = f"{closed} kernel settings may be read by root only"
    if not found:
        questions.lacking["sysctl"] = f"{directory} tells nothing"
    return dict(sorted(found.items()))


def _read(path: Path) -> str | None:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(_SETTING_BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError:
        return None  # write-only settings, and settings that return an error


def _devices(questions: Questions) -> Any:  # noqa: ANN401 - as lsblk nests them
    if not _BLOCK_DEVICES.is_dir():
        questions.lacking["storage"] = f"there is no {_BLOCK_DEVICES}: a container has no disks of its own"
        return None
    words = ["lsblk", "--json", "--bytes", "--exclude", _EPHEMERAL_DEVICES, "--output", _LSBLK]
    listed = _read_as(dict[str, list[dict[str, Any]]], questions, "storage", words)
    return None if listed is None else [each for each in listed.get("blockdevices", ()) if each.get("size")]


def _walked(devices: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - as above
    for device in devices:
        yield device
        yield from _walked(device.get("children", ()))


def _partitioned(devices: Any) -> Iterator[str]:  # noqa: ANN401 - as above
    """Yield devices with a partition table: disks and arrays. A partition is part of its device's table."""
    for device in _walked(devices):
        if device.get("pttype") and device.get("kname") and device.get("type") != "part":
            yield device["kname"]


def _network(questions: Questions) -> Any:  # noqa: ANN401 - as `System` has it
    links = _read_as(list[_Link], questions, "addresses", ["ip", "-json", "address", "show"])
    routes = _routes(questions)
    if links is None or routes is None:
        return None
    kept = [link for link in links if link.ifname and not _VIRTUAL_INTERFACE.fullmatch(link.ifname)]
    names = {link.ifname for link in kept}
    return {
        "addresses": [
            {
                "name": link.ifname,
                "hardware": link.address,
                "mtu": link.mtu,
                "addresses": sorted(
                    f"{row.local}/{row.prefixlen}"
                    for row in link.addr_info
                    if row.scope == "global" and not row.temporary
                ),
            }
            for link in kept
        ],
        "routes": [
            {key: row[key] for key in ("type", "dst", "gateway", "via", "dev", "metric", "nexthops") if key in row}
            for row in routes
            if "dev" not in row or row["dev"] in names
        ],
    }


def _routes(questions: Questions) -> list[dict[str, Any]] | None:
    """Return the routes of both protocols, without volatile IPv6 routes of the kernel and of routers."""
    rows = list[dict[str, Any]]
    routes = _read_as(rows, questions, "routes", ["ip", "-json", "route", "show"])
    if routes is None or not _IPV6.exists():
        return routes
    more = _read_as(rows, questions, "routes", ["ip", "-6", "-json", "route", "show"])
    return None if more is None else [*routes, *(row for row in more if row.get("protocol") not in ("kernel", "ra"))]


def _read_as(
    form: type[_T], questions: Questions, what: str, argv: list[str], *, success: tuple[int, ...] = (0,)
) -> _T | None:
    """Return the decoded JSON output of a program."""
    text = questions.ask(what, argv, success=success)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=form)
    except msgspec.ValidationError as error:
        questions.miss(what, f"the output of {argv[0]} is invalid: {error}")
    except msgspec.DecodeError:
        questions.miss(what, f"{argv[0]} did not print JSON")
    return None


def with_lacking(system: System, questions: Questions) -> System:
    """Add all facts that could not be determined so far."""
    return msgspec.structs.replace(system, lacking=dict(sorted(questions.lacking.items())))
