"""Snapshots as a file system that is only read: what there is (`view`), and how the kernel asks for it (`serving`)."""
