"""Probes of the network: ports, names, certificates.

Invariants
    A certificate is good if this host's authorities vouch for it, for that name, and for long enough.
    A failing name server is not an answer: nothing is then known about the name.
"""

import ipaddress
import socket
import ssl
import time

from drtool.plans.actions.probing.replies import CannotAsk, Reply, bad, good
from drtool.plans.language.probes import DnsProbe, TcpProbe, TlsProbe
from drtool.plans.language.values import duration_text
from drtool.plans.web import told

_NO_ANSWER = frozenset({socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM, socket.EAI_MEMORY})


def ask_tcp(probe: TcpProbe, ends_at: float) -> Reply:
    place = f"{probe.host}:{probe.port}"
    try:
        with socket.create_connection((probe.host, probe.port), timeout=_left_s(ends_at)):
            return good(f"{place} accepts connections", True)
    except (OSError, UnicodeError) as error:
        return bad(f"{place}: {told(error)}", False)


def ask_dns(probe: DnsProbe, ends_at: float) -> Reply:  # noqa: ARG001 - the resolver has its own timeout
    family = socket.AF_INET if probe.record == "A" else socket.AF_INET6
    try:
        rows = socket.getaddrinfo(probe.name, None, family, socket.SOCK_STREAM)
    except UnicodeError:
        return bad(f"{probe.name!r} is not a valid name", [])
    except socket.gaierror as error:
        if error.errno in _NO_ANSWER:
            raise CannotAsk(f"{probe.name}: the name server did not answer: {error.strerror}") from None
        return bad(f"{probe.name} has no {probe.record}: {error.strerror}", [])
    addresses = sorted({str(row[4][0]) for row in rows})
    wanted = sorted({_address(word) for word in probe.expect.addresses})
    detail = f"{probe.name} is {', '.join(addresses)}"
    if wanted and {_address(each) for each in addresses} != set(wanted):
        return bad(f"{detail}; expected {', '.join(wanted)}", addresses)
    return good(detail, addresses)


def _address(word: str) -> str:
    try:
        return str(ipaddress.ip_address(word.partition("%")[0]))
    except ValueError:
        return word


def ask_tls(probe: TlsProbe, ends_at: float) -> Reply:
    place = f"{probe.host}:{probe.port}"
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((probe.host, probe.port), timeout=_left_s(ends_at)) as plain,
            context.wrap_socket(plain, server_hostname=probe.server_name or probe.host) as link,
        ):
            certificate = link.getpeercert() or {}
    except (OSError, UnicodeError, ValueError) as error:
        return bad(f"{place}: {told(error)}")
    ends = str(certificate.get("notAfter", ""))
    left_s = ssl.cert_time_to_seconds(ends) - time.time()
    detail = f"{place}: the certificate is valid until {ends}"
    wanted_s = probe.expect.valid_for_s
    if wanted_s is not None and left_s < wanted_s:
        return bad(f"{detail}; expected it for another {duration_text(wanted_s)}", round(left_s))
    return good(detail, round(left_s))


def _left_s(ends_at: float) -> float:
    return max(0.05, ends_at - time.monotonic())
