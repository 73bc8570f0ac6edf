"""A host's system: the record of its packages and settings, and a script that rebuilds it from the record."""

from drtool.sources.system.asking import present_system
from drtool.sources.system.capture import SystemSource, walked
from drtool.sources.system.drift import WHAT, Difference, counted, differences, lacking
from drtool.sources.system.observing import PACKAGE_DATABASES, restored_system
from drtool.sources.system.record import INVENTORY, INVENTORY_BYTES_MAX, KIND, System, read_system

__all__ = [
    "INVENTORY",
    "INVENTORY_BYTES_MAX",
    "KIND",
    "PACKAGE_DATABASES",
    "WHAT",
    "Difference",
    "System",
    "SystemSource",
    "counted",
    "differences",
    "lacking",
    "present_system",
    "read_system",
    "restored_system",
    "walked",
]
