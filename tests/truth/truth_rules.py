"""Rules that the product does not keep yet, each with the reason. `make truth ARGS=--all-rules` applies them too."""

NOT_YET: dict[str, str] = {
    "status-exit-code-and-healthy-agree": "problems that are listed do not all lead to exit 7",
    "status-is-not-healthy-when-a-promised-loss-would-cost-a-snapshot": "as above",
    "status-is-not-healthy-when-a-site-is-away": "as above",
    "status-is-not-healthy-when-a-site-cannot-be-written": "no target is tried",
    "status-is-not-healthy-when-damage-is-known": "as above",
    "status-is-not-healthy-when-a-key-slot-is-missing": "as above",
    "status-counts-copies-that-can-be-seen": "findings do not count",
    "backup-counts-copies-that-can-be-seen": "reused packs count wherever the index says that they are",
    "survive-says-what-a-loss-leaves": "pages of the catalogue count by their names",
    "repair-heals-what-it-says": "pages of the catalogue and damaged key slots stay as they are",
    "verify-finds-all-damage": "the catalogue is not read",
    "verify-exits-0-only-when-every-copy-is-there": "as above",
}
