"""Which snapshots stay: rules judged over groups of snapshots, and an alarm when something wants to trick them. Pure.

`rules` says what a policy is, `periods` what a day is, `groups` which snapshots are judged together, `judging` what stays and
why, `alarm` when a person should look first. Time and time zone are handed in.
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
