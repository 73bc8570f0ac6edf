"""Hours, days, ISO weeks, months and years by the wall clock of one time zone.

Invariants
    The result depends only on the instant and the zone, so it is the same on every host.
    Periods follow the wall clock: the hour that occurs twice when a clock goes back is one hour, and a day lasts 23 or
    25 hours if a clock changes in it.
    Where the clock is ambiguous, the earlier instant is taken, so more snapshots stay. This concerns an instant that is
    shown twice, one that is skipped, and a day that the month does not have (a month before 31 March is the last day of
    February).
"""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta, tzinfo

from drtool.config.units import Span
from drtool.operations.retention.rules import Period

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_NS = 10**9
_HOUR_NS = 3600 * _NS
# Times outside the calendar's range (with a margin for every zone) count as the first or the last year in it.
_FIRST_S = (datetime(2, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
_LAST_S = (datetime(9998, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
BEGINNING_NS = -(2**80)
"""Before every snapshot."""


class Calendar:
    """The wall clock of one time zone."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def period(self, period: Period, time_ns: int) -> tuple[int, ...]:
        """Return the key of the period that contains an instant."""
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
        """Return the instant `span` before another: years and months, then days, by the clock, and then hours of time."""
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
        """Return the first instant, in seconds, at which the clock shows (or skips) this."""
        return min((shown.replace(tzinfo=self._zone, fold=fold) - _EPOCH) // _SECOND for fold in (0, 1))


def _day_before(day: date, span: Span) -> date | None:
    """Return the day `span` earlier, or None if it is before the calendar begins."""
    years, month = divmod(day.year * 12 + day.month - 1 - span.years * 12 - span.months, 12)
    if years < 1:
        return None
    there = date(years, month + 1, min(day.day, monthrange(years, month + 1)[1]))
    return date.fromordinal(there.toordinal() - span.days) if there.toordinal() - span.days > 1 else None
