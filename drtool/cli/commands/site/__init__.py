"""`site`: manage the sites and their votes on the catalogue."""
