"""One directory's entries: encoded as pages, named by their bytes, walked and compared over a narrow port."""

from drtool.trees.entry import Entry, FileType, unchanged_content

__all__ = ["Entry", "FileType", "unchanged_content"]
