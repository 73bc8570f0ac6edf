"""Runbooks: recovery that is rehearsed, measured and believed."""
