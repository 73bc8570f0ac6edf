"""The entries of one directory: encoded as pages, named by their hash, walked and compared over a narrow port."""

from drtool.trees.entry import (
    AclNames,
    Entry,
    EntryWithAclNames,
    FileType,
    storable,
    storable_time,
    unchanged_content,
    with_acl_names,
)
from drtool.trees.pages import Fetch, Put, read_content, read_directory, write_content, write_directory
from drtool.trees.walk import find_entry, split_path, walk

__all__ = [
    "AclNames",
    "Entry",
    "EntryWithAclNames",
    "Fetch",
    "FileType",
    "Put",
    "find_entry",
    "read_content",
    "read_directory",
    "split_path",
    "storable",
    "storable_time",
    "unchanged_content",
    "walk",
    "with_acl_names",
    "write_content",
    "write_directory",
]
