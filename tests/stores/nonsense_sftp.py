"""An SFTP server that answers each request at random: refusals, other types of answers, cut packets, random bytes.

sshd runs it as a subsystem with a seed as its argument. It answers the first packet, the version, correctly, because otherwise
no request would follow.
"""

import random
import struct
import sys

VERSION, STATUS, HANDLE, DATA, NAME, ATTRS = 2, 101, 102, 103, 104, 105


def main() -> None:
    chance = random.Random(int(sys.argv[1]))
    read, write = sys.stdin.buffer.read, sys.stdout.buffer
    read(int.from_bytes(read(4)))
    send(write, bytes([VERSION]) + struct.pack(">I", 3))
    while head := read(4):
        request = read(int.from_bytes(head))
        send(write, answer(chance, request[1:5]))


def send(write, packet: bytes) -> None:
    write.write(struct.pack(">I", len(packet)) + packet)
    write.flush()


def answer(chance: random.Random, request_id: bytes) -> bytes:
    word = struct.pack(">I", 4) + chance.randbytes(4)
    kinds = [
        bytes([STATUS]) + request_id + struct.pack(">I", chance.randrange(40)) + word + word,
        bytes([STATUS]) + request_id,
        bytes([HANDLE]) + request_id + word,
        bytes([DATA]) + request_id + word,
        bytes([NAME]) + request_id + struct.pack(">I", chance.choice([0, 1, 2**31])) + word + word + bytes(4),
        bytes([ATTRS])
        + request_id
        + struct.pack(">I", chance.choice([0, 1, 15]))
        + chance.randbytes(chance.randrange(40)),
        bytes([chance.randrange(256)]) + request_id + chance.randbytes(chance.randrange(40)),
    ]
    return chance.choice(kinds)


if __name__ == "__main__":
    main()
