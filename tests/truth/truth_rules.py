"""Rules that the product does not keep yet, each with the reason. `make truth ARGS=--all-rules` applies them too."""

NOT_YET: dict[str, str] = {
    "status-is-not-healthy-when-damage-is-known": "the catalogue is not read",
    "status-counts-copies-that-can-be-seen": "findings do not count",
    "backup-counts-copies-that-can-be-seen": "reused packs count wherever the index says that they are",
    "survive-says-what-a-loss-leaves": "pages of the catalogue count by their names",
    "repair-heals-what-it-says": "pages of the catalogue and damaged key slots stay as they are",
    "verify-finds-all-damage": "the catalogue is not read",
    "verify-exits-0-only-when-every-copy-is-there": "as above",
}
