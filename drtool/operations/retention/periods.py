"""Hours, days, ISO weeks, months and years as the clock on the wall of one time zone shows them.

Invariants
    The answer depends on the instant and the zone alone: the same on every host.
    A period is what the clock calls it: the hour that is shown twice when a clock goes back is one hour, and a day lasts 23 or
    25 hours when a clock changes in it.
    Where the clock leaves a choice, the earlier instant is taken, so that more stays: of an instant that is shown twice, of one
    that is skipped, and of a day that the month does not have (a month before 31 March is its last day of February).
"""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta, tzinfo

from drtool.config.units import Span
from drtool.operations.retention.rules import Period

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_NS = 10**9
_HOUR_NS = 3600 * _NS
# What no calendar holds, in every zone with a margin, counts as the first or the last year that one holds.
_FIRST_S = (datetime(2, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
_LAST_S = (datetime(9998, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
BEGINNING_NS = -(2**80)
"""Before every snapshot."""


class Calendar:
    """The clock on the wall."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def period(self, period: Period, time_ns: int) -> tuple[int, ...]:
        """The name of the period that an instant is in."""
        moment = self._local(time_ns)
        match period:
            case "hourly":
                return moment.year, moment.month, moment.day, moment.hour
            case "daily":
                return moment.year, moment.month, moment.day
            case "weekly":
                return moment.isocalendar()[:2]
            case "monthly":
                return moment.year, moment.month
            case "yearly":
                return (moment.year,)

    def before(self, time_ns: int, span: Span) -> int:
        """The instant that lies `span` before another: years and months first, then days, by the clock; then hours, by time."""
        start_ns = time_ns
        if any(span[:3]):
            moment = self._local(time_ns)
            day = _day_before(moment.date(), span)
            if day is None:
                return BEGINNING_NS
            start_ns = self._instant(datetime.combine(day, moment.time())) * _NS + time_ns % _NS
        return start_ns - span.hours * _HOUR_NS

    def _local(self, time_ns: int) -> datetime:
        return datetime.fromtimestamp(min(max(time_ns // _NS, _FIRST_S), _LAST_S), self._zone)

    def _instant(self, shown: datetime) -> int:
        """The first instant, in seconds, at which the clock shows (or skips) this."""
        return min((shown.replace(tzinfo=self._zone, fold=fold) - _EPOCH) // _SECOND for fold in (0, 1))


def _day_before(day: date, span: Span) -> date | None:
    """None: before the calendar's beginning."""
    years, month = divmod(day.year * 12 + day.month - 1 - span.years * 12 - span.months, 12)
    if years < 1:
        return None
    there = date(years, month + 1, min(day.day, monthrange(years, month + 1)[1]))
    return date.fromordinal(there.toordinal() - span.days) if there.toordinal() - span.days > 1 else None
