"""drtool: disaster recovery and backup across sites. See docs/architecture.md."""

__version__ = "0.1.0"
