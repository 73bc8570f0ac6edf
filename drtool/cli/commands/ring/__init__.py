"""`ring`: show or preview which target holds which data."""
