"""The kinds of probe. Each queries one thing and changes nothing.

`every`, `within` and `successes` control repetition: until that many consecutive answers are as expected.
"""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from drtool.plans.language.field_types import (
    Count,
    Filled,
    OptionalDuration,
    OptionalSize,
    OptionalSpan,
    Positive,
    Words,
)

Port = Annotated[int, Meta(ge=1, le=65535)]
Scalar: TypeAlias = str | int | float | bool


class HttpExpect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status: Annotated[int, Meta(ge=100, le=599)] = 200
    contains: str | None = None
    matches: str | None = None
    answers_within_s: OptionalSpan = field(name="answers_within", default=None)


class SqlExpect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Expectations of the first column of the first row, except for `rows`."""

    equals: Scalar | None = None
    min: float | None = None
    max: float | None = None
    rows: Count | None = None


class FileExpect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    exists: bool = True
    min_size_bytes: OptionalSize = field(name="min_size", default=None)
    contains: str | None = None
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    max_age_s: OptionalSpan = field(name="max_age", default=None)


class CommandExpect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    exit_codes: tuple[int, ...] = (0,)
    stdout_contains: str | None = None
    stdout_matches: str | None = None


class DnsExpect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without `addresses`, any answer is accepted."""

    addresses: Words = ()


class TlsExpect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    valid_for_s: OptionalDuration = field(name="valid_for", default=None)


class MetricExpect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    min: float | None = None
    max: float | None = None
    equals: float | None = None


class _Asking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    every_s: OptionalSpan = field(name="every", default=None)
    within_s: OptionalSpan = field(name="within", default=None)
    """None: probe once."""
    successes: Positive = 1


class HttpProbe(_Asking, frozen=True, kw_only=True, tag="http"):
    url: Annotated[str, Meta(pattern=r"^(https?://|.*\$\{\{|‹)")]
    method: Literal["GET", "HEAD"] = "GET"
    headers: dict[str, str] = {}
    expect: HttpExpect = HttpExpect()


class TcpProbe(_Asking, frozen=True, kw_only=True, tag="tcp"):
    host: Filled
    port: Port = 0


class SqlProbe(_Asking, frozen=True, kw_only=True, tag="sql"):
    engine: Literal["postgresql", "mysql", "sqlite"]
    dsn: Filled
    query: Filled
    params: tuple[Scalar | None, ...] = ()
    expect: SqlExpect = SqlExpect()


class FileProbe(_Asking, frozen=True, kw_only=True, tag="file"):
    path: Filled
    expect: FileExpect = FileExpect()


class CommandProbe(_Asking, frozen=True, kw_only=True, tag="command"):
    """A program that must change nothing, because the dry run runs it."""

    argv: Words
    env: dict[str, str] = {}
    stdin: str | None = None
    expect: CommandExpect = CommandExpect()


class DnsProbe(_Asking, frozen=True, kw_only=True, tag="dns"):
    name: Filled
    record: Literal["A", "AAAA"] = "A"
    expect: DnsExpect = DnsExpect()


class TlsProbe(_Asking, frozen=True, kw_only=True, tag="tls"):
    host: Filled
    port: Port = 443
    server_name: Filled | None = None
    expect: TlsExpect = TlsExpect()


class MetricProbe(_Asking, frozen=True, kw_only=True, tag="metric"):
    """One sample from a page in the Prometheus text format."""

    url: Filled
    metric: Filled
    labels: dict[str, str] = {}
    headers: dict[str, str] = {}
    expect: MetricExpect = MetricExpect()


Probe: TypeAlias = HttpProbe | TcpProbe | SqlProbe | FileProbe | CommandProbe | DnsProbe | TlsProbe | MetricProbe
