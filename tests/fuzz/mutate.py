"""Bytes that nearly are what they should be."""

import random
from collections.abc import Sequence

NASTY = [
    b"", b"\0", b"_", b"\xff", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80",  # not UTF-8
    "\u202e\u0000\U0010ffff".encode(), b"k" * 512, b"k" * 513, b"9" * 400, b"-1", b"nan", b"1e400",
    b"%s%n", b"{}", b"{{7*7}}", b"../../x", b"a\r\nb", b"'\"\\;|,:", b"*" * 70_000,
    b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # -1
    b"\x08" + b"\xff" * 10,  # a varint that does not end
    b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab",  # longer than what follows
    b"\x0b\x0c", b"\x0b", b"\x0c",  # groups: whole, not closed, not opened
    b"\x0b" * 150,  # groups deeper than parsers go
    b"\x0f\x0e",  # wire types that there are not
    b"\x00\x01", b"\xf8\xff\xff\xff\x0f\x01",  # field 0, and the last one
]  # fmt: skip


def mutate(dice: random.Random, data: bytes, others: Sequence[bytes] = NASTY) -> bytes:
    """`data` with one to three things wrong."""
    made = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        at = dice.randint(0, len(made))
        match dice.randrange(8):
            case 0:
                return dice.choice(others)
            case 1:
                del made[at:]
            case 2:
                made[at:at] = dice.choice(others)
            case 3:
                made[at:at] = dice.randbytes(dice.randint(1, 8))
            case 4 if made:
                made[at % len(made)] ^= 1 << dice.randrange(8)
            case 5 if made:
                made[at % len(made)] = dice.choice([0, 1, 127, 128, 255])
            case 6:
                del made[at : at + dice.randint(1, 4)]
            case _:
                made += made[at:]
    return bytes(made)
