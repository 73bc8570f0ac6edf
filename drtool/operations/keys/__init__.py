"""The commands on passwords: `key list`, `key add`, `key remove`, `key rotate`."""

from drtool.operations.keys.adding import KeyAdded, add_key
from drtool.operations.keys.listing import KeyList, list_keys
from drtool.operations.keys.removing import KeyRemoval, plan_removal, remove_key
from drtool.operations.keys.rotating import Rotation, plan_rotation, preview, rotate_keys

__all__ = [
    "KeyAdded",
    "KeyList",
    "KeyRemoval",
    "Rotation",
    "add_key",
    "list_keys",
    "plan_removal",
    "plan_rotation",
    "preview",
    "remove_key",
    "rotate_keys",
]
