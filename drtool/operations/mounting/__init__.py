"""Snapshots as a read-only file system: the tree that is shown (`view`), and the FUSE side (`serving`)."""
