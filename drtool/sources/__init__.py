"""What can be backed up, and how it is put back: file systems first; streams, the system and databases beside them."""
