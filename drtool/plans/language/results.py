"""The results of each kind of step, by name and kind. `outputs` chooses from these."""

from drtool.plans.language.values import ValueKind

RESULTS: dict[str, dict[str, ValueKind]] = {
    "backup": {
        "snapshot_id": "text",
        "time": "timestamp",
        "files": "number",
        "bytes": "size",
        "added_bytes": "size",
        "stored_bytes": "size",
        "degraded": "bool",
    },
    "restore": {
        "snapshot_id": "text",
        "consistent_at": "timestamp",
        "path": "text",
        "dsn": "text",
        "engine": "text",
        "server_version": "text",
        "programs": "text",
        "file_count": "number",
        "not_captured": "number",
        "bytes": "size",
    },
    "verify": {
        "checked": "number",
        "checked_bytes": "size",
        "bad_objects": "list",
        "missing": "number",
        "damaged": "number",
        "upper_bound_bad_fraction": "number",
        "snapshot_id": "text",
    },
    "repair": {"copied": "number", "rebuilt": "number", "removed": "number", "unrepairable": "list"},
    "rebalance": {"copied": "number", "removed": "number", "moved_bytes": "size"},
    "run": {"exit_code": "number", "stdout": "text"},
    "probe": {"value": "any", "status": "number", "seconds": "number", "attempts": "number"},
    "compare": {"equal": "bool", "differences": "number", "paths": "list"},
    "fault": {"objects": "list", "targets": "list", "ends": "timestamp"},
    "approve": {"by": "text", "at": "timestamp"},
    "notify": {},
    "wait": {"seconds": "number"},
    "assert": {},
    "plan": {"run_id": "text", "verdict": "text"},
}
