"""`scratch`: show or remove the directories that runs restore into."""
