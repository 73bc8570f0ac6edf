"""`session`: show or end the sessions of running writers."""
