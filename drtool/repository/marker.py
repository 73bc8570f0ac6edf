"""The marker `drtool.json` on every target, which identifies the repository and the target.

Invariants
    A target without its own marker is offline, so an unmounted disk is never filled and a foreign one never touched.
    The MAC is checked as soon as the key is available. Until then the marker is only a guide.
"""

import random
import time

import msgspec
from msgspec import Struct

from drtool.crypto import Keyring
from drtool.errors import FormatError, TargetBusy
from drtool.manifest.names import MARKER
from drtool.model import RepositoryId, SiteName, TargetName
from drtool.stores import Store

MARKER_OBJECT = MARKER
MARKER_BYTES_MAX = 16 * 1024
FORMAT_VERSION = 1
OPENING_PAUSES_S = (0.1, 0.3, 1.0)
_PURPOSE = "marker"


class Marker(Struct, frozen=True, kw_only=True):
    """The JSON document at the root of a target. `mac` is hexadecimal, over the encoding with an empty `mac`."""

    format: int = FORMAT_VERSION
    repository: str
    site: SiteName
    target: TargetName
    target_id: str
    average_chunk_bytes: int
    mac: str = ""

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def signed(self, keyring: Keyring) -> "Marker":
        return msgspec.structs.replace(self, mac=keyring.mac(_PURPOSE, self._text()).hex())

    def authentic(self, keyring: Keyring) -> bool:
        try:
            tag = bytes.fromhex(self.mac)
        except ValueError:
            return False
        return keyring.mac_matches(_PURPOSE, self._text(), tag)

    def _text(self) -> bytes:
        return msgspec.json.encode(msgspec.structs.replace(self, mac=""))

    @classmethod
    def read(cls, store: Store) -> "Marker":
        """Return the marker of a target. ObjectMissing if it has none."""
        return decode_marker(store.get(MARKER_OBJECT, 0, MARKER_BYTES_MAX + 1))

    @property
    def repository_id(self) -> RepositoryId:
        return RepositoryId(bytes.fromhex(self.repository))


def decode_marker(data: bytes) -> Marker:
    """Return the marker. FormatError unless it is one that this program understands."""
    if len(data) > MARKER_BYTES_MAX:
        raise FormatError(f"its {MARKER_OBJECT} has {len(data)} bytes, so it is not a marker of drtool")
    try:
        marker = msgspec.json.decode(data, type=Marker)
        bytes.fromhex(marker.repository)
    except (msgspec.MsgspecError, ValueError) as error:
        raise FormatError(f"its {MARKER_OBJECT} does not parse: {error}") from None
    if marker.format != FORMAT_VERSION:
        raise FormatError(
            f"its format version is {marker.format}, but this program reads version {FORMAT_VERSION}",
            hint="use the newest drtool that any host of this repository uses",
        )
    # The MAC covers the values alone: a damaged name of a field or another form of the same digits does not change it.
    if marker.encode() != data or marker.mac.lower() != marker.mac:
        raise FormatError(f"its {MARKER_OBJECT} is damaged: other bytes stand for its values than drtool writes")
    return marker


def sound_marker(store: Store, name: TargetName, repository: RepositoryId | None) -> Marker:
    """Return the marker. `FormatError` if it names another target or repository, `ObjectMissing` if there is none."""
    marker = _marker(store)
    if marker.target != name:
        raise FormatError(f"it is target {marker.target} of a repository, not {name}")
    if repository is not None and marker.repository_id != repository:
        raise FormatError(f"it belongs to another repository, {marker.repository}")
    return marker


def _marker(store: Store) -> Marker:
    """Return its marker. A busy server is asked again, but an unreachable one is not, since most of those stay so."""
    for pause_s in OPENING_PAUSES_S:
        try:
            return Marker.read(store)
        except TargetBusy:
            time.sleep(random.uniform(0.5, 1.0) * pause_s)
    return Marker.read(store)
