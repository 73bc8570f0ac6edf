"""Directories and files: captured as they are, put back as they were."""

from drtool.sources.filesystem.acls import ACL_ACCESS, ACL_DEFAULT, ACL_GROUP, ACL_USER, read_acl
from drtool.sources.filesystem.applying import Applier, decided_by_restore
from drtool.sources.filesystem.attributes import (
    attributes_of,
    flags_of,
    folds_by_flag,
    hole_at,
    holes_of,
    is_hole,
    is_sparse,
    new_holes,
    xattrs_in,
    xattrs_of,
)
from drtool.sources.filesystem.capture import Captured, capture_directory
from drtool.sources.filesystem.describe import complete, describe_stat, settle_directory
from drtool.sources.filesystem.detours import Detours, plan_detours
from drtool.sources.filesystem.excludes import (
    Recent,
    Rules,
    file_pattern_of,
    idle_reason,
    pattern_of,
    patterns_below,
    read_patterns,
    text_of,
)
from drtool.sources.filesystem.links import HardLinks, LinkGroup, link_group
from drtool.sources.filesystem.owners import OwnerIds, OwnerNames, read_group_mapping, read_user_mapping
from drtool.sources.filesystem.patterns import Matcher
from drtool.sources.filesystem.putback import Folder
from drtool.sources.filesystem.reading import (
    gone,
    open_directory,
    open_directory_path,
    open_for_read,
    open_leased,
    open_passage_path,
    open_same_directory,
    reason,
    same_state,
    stat_between_ticks,
    still_same,
    with_uncaptured,
)
from drtool.sources.filesystem.removing import count
from drtool.sources.filesystem.rights import hidden_from_us, hidden_kinds
from drtool.sources.filesystem.roots import Problem, Roots, join, plan_roots
from drtool.sources.filesystem.sight import EVERYTHING, FLAGS, TRUSTED, UNREADABLE, Sight
from drtool.sources.filesystem.times import same_time
from drtool.sources.filesystem.writing import write_data

__all__ = [
    "ACL_ACCESS",
    "ACL_DEFAULT",
    "ACL_GROUP",
    "ACL_USER",
    "EVERYTHING",
    "FLAGS",
    "TRUSTED",
    "UNREADABLE",
    "Applier",
    "Captured",
    "Detours",
    "Folder",
    "HardLinks",
    "LinkGroup",
    "Matcher",
    "OwnerIds",
    "OwnerNames",
    "Problem",
    "Recent",
    "Roots",
    "Rules",
    "Sight",
    "attributes_of",
    "capture_directory",
    "complete",
    "count",
    "decided_by_restore",
    "describe_stat",
    "file_pattern_of",
    "flags_of",
    "folds_by_flag",
    "gone",
    "hidden_from_us",
    "hidden_kinds",
    "hole_at",
    "holes_of",
    "idle_reason",
    "is_hole",
    "is_sparse",
    "join",
    "link_group",
    "new_holes",
    "open_directory",
    "open_directory_path",
    "open_for_read",
    "open_leased",
    "open_passage_path",
    "open_same_directory",
    "pattern_of",
    "patterns_below",
    "plan_detours",
    "plan_roots",
    "read_acl",
    "read_group_mapping",
    "read_patterns",
    "read_user_mapping",
    "reason",
    "same_state",
    "same_time",
    "settle_directory",
    "stat_between_ticks",
    "still_same",
    "text_of",
    "with_uncaptured",
    "write_data",
    "xattrs_in",
    "xattrs_of",
]
