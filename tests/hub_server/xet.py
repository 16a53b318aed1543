"""Xet, as far as clients with hf_xet need it: their large files go to a folder that hf_xet itself writes and reads.

A client that has hf_xet asks for the address of the storage service, and sends large files there and not through LFS,
whatever the Hub answers. An address that begins with ``local://`` is a folder. So the bytes do not pass through this
server, and no fault can be ordered for them; for all other requests of such an upload it can.
"""

from __future__ import annotations

import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .protocol import Reply, Request

if TYPE_CHECKING:
    from .server import HubServer

LIFETIME = 3600  # seconds
ENTRY = 48  # bytes of the shard's header and of each of its entries
END = b"\xff" * 32
HAS_VERIFICATION, HAS_SHA256 = 1 << 31, 1 << 30


def token(hub: HubServer, request: Request, kind: str, name: str, role: str, revision: str) -> Reply:
    """Where the storage is. The token is for show: whoever may know the folder's name may use it."""
    (hub.writable if role == "write" else hub.readable)(request, kind, name)
    expiry = int(time.time()) + LIFETIME
    reply = Reply.json({"casUrl": _address(hub), "accessToken": "xet", "exp": expiry})
    reply.headers |= {"X-Xet-Cas-Url": _address(hub), "X-Xet-Access-Token": "xet"}
    reply.headers["X-Xet-Token-Expiration"] = str(expiry)
    return reply


def fetch(hub: HubServer, sha256: str) -> bytes | None:
    """A file that a client has left in the folder, as a client would download it; None if there is none."""
    for shard in Path(hub.xet_folder.name).glob("xet/xorbs/shards/*.mdb"):
        hub.xet_files |= _files_of(shard.read_bytes())
    if sha256 not in hub.xet_files:
        return None
    import hf_xet  # not every platform has it, nor does any other test need it

    digest, size = hub.xet_files[sha256]
    options = {"endpoint": _address(hub), "token": "xet", "token_expiry_unix_secs": int(time.time()) + LIFETIME}
    with tempfile.TemporaryDirectory() as folder:
        with hf_xet.XetSession().new_file_download_group(**options) as group:
            group.start_download_file(hf_xet.XetFileInfo(digest, size), f"{folder}/file")
        return Path(folder, "file").read_bytes()


def _address(hub: HubServer) -> str:
    return f"local://{hub.xet_folder.name}"


def _files_of(shard: bytes) -> dict[str, tuple[str, int]]:
    """Xet hash and size of each file in a shard by its SHA-256.

    After its header a shard lists files until an entry of ones. A file is an entry with its hash, flags and the number
    of its segments; then that many segments; as many entries to verify them; and an entry with its SHA-256.
    """
    files, at = {}, ENTRY
    while not shard.startswith(END, at):
        flags, segments = struct.unpack_from("<II", shard, at + 32)
        size = sum(struct.unpack_from("<I", shard, at + ENTRY * (1 + i) + 36)[0] for i in range(segments))
        last = at + ENTRY * (1 + segments * (2 if flags & HAS_VERIFICATION else 1))
        if flags & HAS_SHA256:
            files[_hex(shard[last : last + 32])] = (_hex(shard[at : at + 32]), size)
        at = last + (ENTRY if flags & HAS_SHA256 else 0)
    return files


def _hex(digest: bytes) -> str:
    """Xet writes a digest as four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))
