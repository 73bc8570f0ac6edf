"""A retention policy as data: how many of each period stay, which age stays, and which tags keep a snapshot.

The words and their meaning are restic's (`restic forget`), with the exceptions listed in `judging`.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from msgspec import Struct

from drtool.config.units import UNLIMITED, Span

FORGET_GRACE_NS = 7 * 24 * 3600 * 10**9
"""How long prune spares the data of a snapshot that another host forgot."""

Period: TypeAlias = Literal["hourly", "daily", "weekly", "monthly", "yearly"]
PERIODS: tuple[Period, ...] = ("hourly", "daily", "weekly", "monthly", "yearly")


class Rules(Struct, frozen=True, kw_only=True):
    """What stays. 0 and an empty span keep nothing, and UNLIMITED keeps every one. Each rule is applied on its own."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Span = Span()
    within_hourly: Span = Span()
    within_daily: Span = Span()
    within_weekly: Span = Span()
    within_monthly: Span = Span()
    within_yearly: Span = Span()
    tags: tuple[str, ...] = ()

    @property
    def counted(self) -> Iterator[tuple[Period, int]]:
        """Return the periods with a number of snapshots to keep."""
        return ((period, number) for period in PERIODS if (number := getattr(self, period)))

    @property
    def recent(self) -> Iterator[tuple[Period, Span]]:
        """Return the periods with a maximum age."""
        return ((period, span) for period in PERIODS if any(span := getattr(self, f"within_{period}")))

    @property
    def empty(self) -> bool:
        """Return whether the rules would keep nothing."""
        return self == Rules()

    def __str__(self) -> str:
        words = [f"last {_number(self.last)}"] if self.last else []
        words += [f"{period} {_number(number)}" for period, number in self.counted]
        words += [f"within {self.within}"] if any(self.within) else []
        words += [f"{period} within {span}" for period, span in self.recent]
        words += [f"tag {tag}" for tag in self.tags]
        return ", ".join(words) or "nothing"


def _number(count: int) -> str:
    return "unlimited" if count == UNLIMITED else str(count)
