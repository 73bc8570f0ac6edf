"""One directory's entries: encoded as pages, named by their bytes, walked and compared over a narrow port."""

from drtool.trees.entry import Entry, FileType, storable, storable_time, unchanged_content
from drtool.trees.pages import Fetch, Put, read_content, read_directory, write_content, write_directory
from drtool.trees.walk import find_entry, split_path, walk

__all__ = [
    "Entry",
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
    "write_content",
    "write_directory",
]
