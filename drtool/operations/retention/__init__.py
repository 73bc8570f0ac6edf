"""Retention: rules applied to groups of snapshots, and an alarm when snapshots may have been added to trick them. Pure.

`rules` defines a policy, `periods` the calendar, `groups` which snapshots are judged together, `judging` which ones
stay and why, and `alarm` when a person should look first. Time and time zone are parameters.
"""

from drtool.operations.retention.alarm import Alarm, alarms
from drtool.operations.retention.groups import DEFAULT_GROUPING, GROUPINGS, Group, grouped
from drtool.operations.retention.judging import Judgement, Kept, judge
from drtool.operations.retention.periods import Calendar
from drtool.operations.retention.rules import Rules

__all__ = [
    "DEFAULT_GROUPING",
    "GROUPINGS",
    "Alarm",
    "Calendar",
    "Group",
    "Judgement",
    "Kept",
    "Rules",
    "alarms",
    "grouped",
    "judge",
]
