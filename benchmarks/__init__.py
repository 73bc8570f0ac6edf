"""Comparison with widely used backup tools: `make bench` (README.md describes the measurements)."""
