"""Which group of the experiment a request belongs to: the same for the same request id."""

from zlib import crc32

SLOTS = 50
GROUPS = ["control"] * 40 + ["short"] * 5 + ["long"] * 4


def group_of(request_id: str) -> str:
    return GROUPS[crc32(request_id.encode()) % SLOTS]
