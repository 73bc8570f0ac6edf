"""drtool.yaml, read strictly into frozen values. Nothing here reads the environment."""

from drtool.config.document import LATER, convert, load_document, nearest, read_as, read_document
from drtool.config.schema import Config, Limits, Redundancy, Retention, SourceConfig, TargetConfig, load_config

__all__ = [
    "LATER",
    "Config",
    "Limits",
    "Redundancy",
    "Retention",
    "SourceConfig",
    "TargetConfig",
    "convert",
    "load_config",
    "load_document",
    "nearest",
    "read_as",
    "read_document",
]
