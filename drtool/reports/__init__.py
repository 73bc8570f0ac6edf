"""Pages for people: the recovery kit."""
