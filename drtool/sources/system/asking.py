"""What only the running host tells: marks of packages, kernel, sysctl, disks, network.

Invariants
    Nothing is changed, nothing is mounted, and no secret is among what is asked for.
    What differs from one minute to the next is left out: counters, random ids, what came and went with a container.
"""

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from drtool.sources.system import observing
from drtool.sources.system.questions import Questions
from drtool.sources.system.record import Package, System

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
_LVM = {
    "pvs": "pv_name,pv_uuid,pv_size,vg_name",
    "lvs": "vg_name,lv_name,lv_uuid,lv_size,lv_layout,pool_lv,devices",
}
_BLOCK_DEVICES = Path("/sys/dev/block")
_SETTING_BYTES_MAX = 4096
_VIRTUAL_INTERFACE = re.compile(r"lo|veth.*|docker.*|br-[0-9a-f]{12}|cali.*|cni.*|virbr.*|vnet.*")


def present_system(environ: Mapping[str, str]) -> System:
    """This host as it is now; what cannot be found out is in `lacking`."""
    return system_of(Path("/"), Questions(environ))


def system_of(root: Path, questions: Questions) -> System:
    """Everything of a host that is up."""
    found = (*observing.packages(root, questions), *_python(questions), *_node(questions))
    return System(
        hostname=observing.hostname(root) or platform.node(),
        os=observing.os_release(root),
        kernel=platform.release(),
        architecture=platform.machine(),
        firmware="uefi" if Path("/sys/firmware/efi").is_dir() else "bios",
        command_line=_read(Path("/proc/cmdline")) or "",
        packages=tuple(_marked(found, questions)),
        repositories=observing.repositories(root),
        units=observing.units(root),
        crontabs=observing.crontabs(root),
        users=observing.users(root),
        groups=observing.groups(root),
        sysctl=settings(Path("/proc/sys")),
        storage=_devices(questions),
        network=_network(questions),
        lacking=dict(sorted(questions.lacking.items())),
    )


def texts(system: System, questions: Questions) -> Iterator[tuple[str, str]]:
    """(name, content) of what programs print for themselves to read again: partitions, volumes, arrays, boot entries."""
    disks = [device["kname"] for device in system.storage or () if device.get("type") == "disk" and device["pttype"]]
    for disk in disks:
        if table := questions.ask(f"partitions of {disk}", ["sfdisk", "--dump", f"/dev/{disk}"]):
            yield f"storage/{disk}.sfdisk", table
    kinds = set(_kinds(system.storage or ()))
    if "lvm" in kinds:  # the volume groups' own description lies in /etc/lvm/backup
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
    """With the marks of what somebody asked for. Where there is no way to tell, all of it."""
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
    """What pip has put beside the distribution's own modules, in the system's Python."""
    program = next((each for each in ("/usr/bin/python3", "python3") if questions.has(each)), "")
    if not program or not questions.succeeds([program, "-m", "pip", "--version"]):
        return []  # without pip nothing came by it
    words = [program, "-m", "pip", "--disable-pip-version-check", "list", "--verbose", "--format=json"]
    rows = _json(questions, "packages of pip", words) or ()
    found = [
        Package(manager="pip", name=row["name"], version=row["version"])
        for row in rows
        if not str(row.get("location", "")).startswith("/usr/lib/")  # the distribution's, which are packages of its own
    ]
    return sorted(found, key=lambda package: package.name)


def _node(questions: Questions) -> list[Package]:
    if not questions.has("npm"):
        return []
    # npm says 1 where one package's wishes for others are not met; its list is whole all the same
    listed = _json(questions, "packages of npm", ["npm", "ls", "--global", "--depth=0", "--json"], success=(0, 1)) or {}
    return [
        Package(manager="npm", name=name, version=row["version"])
        for name, row in sorted(listed.get("dependencies", {}).items())
        if "version" in row
    ]


def settings(directory: Path) -> dict[str, str]:
    """The kernel's settings by their names, with slashes; those that may not be read are left out."""
    found: dict[str, str] = {}
    for above, _, names in os.walk(directory):
        for name in names:
            path = Path(above, name)
            key = str(path.relative_to(directory))
            if _VOLATILE.fullmatch(key):
                continue
            value = _read(path)
            if value is not None:
                found[key] = value
    return dict(sorted(found.items()))


def _read(path: Path) -> str | None:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(_SETTING_BYTES_MAX).decode("utf-8", "replace").strip()
    except OSError:
        return None  # write-only settings, and those of modules that answer with an error


def _devices(questions: Questions) -> Any:  # noqa: ANN401 - as lsblk nests them
    if not _BLOCK_DEVICES.is_dir():
        questions.lacking["storage"] = f"there is no {_BLOCK_DEVICES}: a container has no disks of its own"
        return None
    words = ["lsblk", "--json", "--bytes", "--exclude", _EPHEMERAL_DEVICES, "--output", _LSBLK]
    listed = _json(questions, "storage", words)
    return None if listed is None else [each for each in listed["blockdevices"] if each["size"]]


def _kinds(devices: Any) -> Iterator[str]:  # noqa: ANN401 - as above
    for device in devices:
        yield str(device.get("type"))
        yield from _kinds(device.get("children", ()))


def _network(questions: Questions) -> Any:  # noqa: ANN401 - as ip nests them
    links = _json(questions, "addresses", ["ip", "-json", "address", "show"])
    routes = _json(questions, "routes", ["ip", "-json", "route", "show"])
    if links is None or routes is None:
        return None
    kept = [link for link in links if link and not _VIRTUAL_INTERFACE.fullmatch(link["ifname"])]
    names = {link["ifname"] for link in kept}
    return {
        "addresses": [
            {
                "name": link["ifname"],
                "hardware": link.get("address", ""),
                "mtu": link["mtu"],
                "addresses": sorted(
                    f"{row['local']}/{row['prefixlen']}"
                    for row in link.get("addr_info", ())
                    if row["scope"] == "global"
                ),
            }
            for link in kept
        ],
        "routes": [
            {key: row[key] for key in ("dst", "gateway", "dev", "metric") if key in row}
            for row in routes
            if row.get("dev") in names
        ],
    }


def _json(questions: Questions, what: str, argv: list[str], *, success: tuple[int, ...] = (0,)) -> Any:  # noqa: ANN401 - what a program prints
    text = questions.ask(what, argv, success=success)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        questions.miss(what, f"{argv[0]} printed no JSON")
        return None


def with_lacking(system: System, questions: Questions) -> System:
    """With all that could not be found out until now."""
    return msgspec.structs.replace(system, lacking=dict(sorted(questions.lacking.items())))
