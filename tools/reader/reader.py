#!/usr/bin/env python3
"""Reads a Keepstone repository without Keepstone.

It lists snapshots and files, brings files back, and verifies every object of a repository that lies in a folder. It
follows docs/FORMAT.md and nothing else; "section 8" in a comment is section 8 there. Whoever wants to know how a
repository is read may read this file from top to bottom: damage, CBOR, structures, keys, seals, the store, opening,
blobs, trees, restoring, verifying, and the front door.

    reader.py snapshots --repo DIR --password-file FILE
    reader.py ls        --repo DIR --password-file FILE SNAPSHOT[:PATH]
    reader.py restore   --repo DIR --password-file FILE SNAPSHOT[:PATH] TARGET
    reader.py verify    --repo DIR --password-file FILE

SNAPSHOT is an id, the beginning of one, or `latest`. It only reads the repository, opens no session (so nobody should
prune meanwhile), and prefers being plain to being fast.

What it reads is not trusted: everything is authenticated, every length is compared with a limit before it counts, a
blob must hash to its name, and nothing is written outside the target. Damage is told on standard error and does not
stop what can go on. Exit codes: 0 all is well, 1 failed, 2 usage, 3 something could not be restored as it was, 4 damage
found, 10 no repository, 11 refused, 12 wrong passphrase or key.
"""

import argparse
import getpass
import hmac
import os
import re
import sqlite3
import stat
import struct
import sys
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from hashlib import sha256
from types import SimpleNamespace

import zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESSIV, ChaCha20Poly1305

DONE, FAILED, PARTIAL, DAMAGED, NO_REPOSITORY, REFUSED, WRONG_KEY = 0, 1, 3, 4, 10, 11, 12

FEATURES = set()  # what this reader knows of a config's `reader_features` (section 5)

# Limits of section 16.
MAX_CONFIG_BYTES = MAX_SLOT_BYTES = MAX_EPOCH_BYTES = 64 << 10
MAX_DIRECTORY_BYTES = 32 << 20
MAX_BLOCK_BYTES = 32 << 20
MAX_FRAME_RAW_BYTES = 16 << 20
MAX_IN_PACK = 65536
MAX_CHAIN_DEPTH = 64
MAX_PAGE_BYTES = 64 << 10
MAX_WRAP_BYTES = 4096
MAX_PIECE_BYTES = 4 << 20
MAX_PIECE_ITEMS = 32768
MAX_LEVEL = 8
MAX_NAME_BYTES = 4096
INLINE_BYTES = 512
NODE_CHUNKS = 256
MAX_NESTING = 32  # of any CBOR; structures use a few levels, unknown fields at most 16 more

# Limits of our own.
CACHED_BYTES = 128 << 20  # opened blocks and decoded frames that are kept, each
MAX_FRAMES_OF_A_CHAIN = 4096  # what one blob may ask for before we stop


class Damage(Exception):
    """Something does not follow the format, or is gone. What else there is can still be read."""


class Failure(Exception):
    """The end of the run, with its exit code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Report:
    """What was found wrong: each thing is told once, and the exit code remembers it."""

    def __init__(self):
        self.told = set()
        self.code = DONE

    def damage(self, subject, error):
        self._tell("damaged", subject, error)
        self.code = DAMAGED

    def problem(self, subject, error):
        self._tell("not as it was", subject, error)
        self.code = self.code or PARTIAL

    def _tell(self, what, subject, error):
        line = f"{what}: {shown(subject)}: {error}"
        if line not in self.told:
            self.told.add(line)
            print(line, file=sys.stderr)


def shown(name):
    """Names come from a backup: nothing in them may steer a terminal."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def require(condition, message):
    if not condition:
        raise Damage(message)


# --- CBOR: deterministic encoding and nothing else (section 1) ---------------------------------------------------------


def decode_cbor(raw):
    value, end = cbor_item(raw, 0, 0)
    require(end == len(raw), "bytes follow the structure")
    return value


def cbor_item(raw, at, depth):
    """The item at `at` and where it ends. No length is believed beyond the bytes that are there."""
    require(at < len(raw) and depth <= MAX_NESTING, "CBOR that ends early or nests too deep")
    major, low = raw[at] >> 5, raw[at] & 31
    at += 1
    if major == 7:
        require(20 <= low <= 22, "a CBOR value that has no place here")
        return (False, True, None)[low - 20], at
    number = low
    if low >= 24:
        require(low < 28, "CBOR of indefinite length")
        size = 1 << (low - 24)
        require(at + size <= len(raw), "CBOR that ends early")
        number = int.from_bytes(raw[at : at + size], "big")
        at += size
        require(number >= (24, 1 << 8, 1 << 16, 1 << 32)[low - 24], "a CBOR number that is not in its shortest form")
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    require(major != 6, "a CBOR tag")
    require(number <= len(raw) - at, "CBOR that ends early")  # an item takes at least one byte
    if major == 2:
        return raw[at : at + number], at + number
    if major == 3:
        try:
            return raw[at : at + number].decode("utf-8"), at + number
        except UnicodeDecodeError:
            raise Damage("text that is not UTF-8") from None
    if major == 4:
        items = []
        for _ in range(number):
            item, at = cbor_item(raw, at, depth + 1)
            items.append(item)
        return items, at
    entries, before = {}, b""
    for _ in range(number):
        begin = at
        key, at = cbor_item(raw, at, depth + 1)
        require(raw[begin:at] > before, "CBOR map keys that do not ascend")
        before = raw[begin:at]
        # Only fields of newer versions have keys that are no numbers; they are kept as their bytes.
        key = key if type(key) is int else before
        entries[key], at = cbor_item(raw, at, depth + 1)
    return entries, at


# --- Structures: the tables of the document, in its own words ---------------------------------------------------------

STRUCTURES = """
Config: 1 repository bytes 32, 2 created_ns int, 3 chunker ChunkerConfig, 4 reader_features [text]?,
    5 writer_features [text]?, 6 store StoreConfig, 7 revision uint, 8 parity uint32?
ChunkerConfig: 1 id uint32, 2 min_bytes uint32, 3 average_bytes uint32, 4 max_bytes uint32
StoreConfig: 1 put_if_absent bool?, 2 list_after_write bool?, 3 range_reads bool?, 4 skew_ms int?
KeyWrap: 1 recipient bytes 16, 2 wrapped bytes?
Slot: 1 id bytes 16, 2 created_ns int, 3 label text, 4 public bytes 32, 5 guard Guard, 6 psk_under_root bytes?,
    7 grant StoredGrant?, 8 proven_ns int, 9 replaces bytes 16?, 10 access Access?
Guard: 1 kind GuardKind, 2 salt bytes?, 3 memory_kib uint32?, 4 passes uint32?, 5 lanes uint32?, 6 sealed bytes?
StoredGrant: 1 encapsulated bytes 32, 2 sealed bytes?
Epoch: 1 id bytes 16, 2 number uint, 3 created_ns int, 4 classes [ClassEntry]?, 5 replaces bytes 16?,
    6 before [bytes]?
ClassEntry: 1 class_ uint32, 2 number uint32, 3 id bytes 16, 4 sealed bytes?
Directory: 1 session bytes 16, 2 role Role, 3 keys [bytes 16]?, 4 blocks [Block]?, 5 frames [Frame]?,
    6 blobs [Blob]?, 7 wraps [KeyWrap]?, 8 written_ns int, 9 note bytes?, 10 voucher Voucher?
Head: 1 session bytes 16, 2 level uint32, 3 supersedes [bytes 32]?, 4 condemned_seen uint, 5 keys [bytes 16]?,
    6 pack_pages [PageRef]?, 7 frame_pages [PageRef]?, 8 entry_pages [PageRef]?, 9 entries uint, 10 written_ns int,
    11 page_key bytes 16, 12 previous [bytes 32]?, 13 voucher Voucher?
Voucher: 1 key bytes 16, 2 signature bytes?
TreePiece: 1 level uint32, 2 nodes [Node]?, 3 children [Child]?, 4 users [Owner]?, 5 groups [Owner]?
Child: 1 first bytes?, 2 piece bytes 32
Owner: 1 id uint32, 2 name bytes?
Node: 1 name bytes?, 2 kind NodeKind, 3 mode uint32, 4 uid uint32, 5 gid uint32, 6 mtime_ns int,
    7 ctime_after_ns int, 8 size uint, 9 inode uint, 10 device uint, 11 links uint?, 12 target bytes?, 13 rdev uint?,
    14 xattrs [Xattr]?, 15 changed bool?, 16 inline bytes?, 17 chunks ids?, 18 lengths [uint]?, 19 list bytes 32?,
    20 tree bytes 32?
ListPiece: 1 level uint32, 2 ids ids?, 3 lengths [uint]?
Snapshot: 1 id bytes 16, 2 time_ns int, 3 begun_ns int, 4 ended_ns int, 5 host text, 6 user text, 7 root bytes 32,
    8 paths [bytes]?, 9 tags [text]?, 10 parent bytes 16?, 11 partial bool?, 12 problems [StoredProblem]?,
    13 problem_count uint, 14 totals Totals, 15 program text, 16 excludes [bytes]?, 17 streams [Stream]?,
    18 kinds [text]?, 19 original bytes 16?, 20 description text, 21 received_ns int, 22 dumps [Dump]?,
    23 segments [bytes 32]?, 24 imported [ImportedDump]?, 25 validated bool?,
    26 copied [Copied]?, 27 log [RunRef]?, 28 unverified bool?
Copied: 1 repository bytes 32, 2 snapshot bytes 16
Dump: 1 path bytes, 2 kind text, 3 database text, 4 server text, 5 identity text, 6 tables uint, 7 rows uint,
    8 bytes uint, 9 taken_ns int
ImportedDump: 1 path bytes?, 2 kind text, 3 tool text, 4 server text, 5 database text, 6 state text, 7 reason text,
    8 bytes uint, 9 compression text, 10 tables [ImportedTable]?, 11 table_count uint, 12 rows uint, 13 notes [text]?
ImportedTable: 1 name text, 2 rows uint?
StoredProblem: 1 subject bytes?, 2 message text
Totals: 1 files uint, 2 directories uint, 3 others uint, 4 bytes uint, 5 files_new uint, 6 files_changed uint,
    7 bytes_read uint, 8 bytes_new uint, 9 bytes_delta uint, 10 stored_delta uint, 11 stored_data uint,
    12 metadata_new uint, 13 stored_metadata uint, 14 added uint, 15 whole_delta uint
Stream: 1 path bytes?, 2 kind text, 3 command [bytes]?, 4 status int?, 5 errors bytes?, 6 bytes uint
Tombstone: 1 session bytes 16, 2 fenced_by bytes 16, 3 at_ns int
Session: 1 id bytes 16, 2 kind SessionKind, 3 host text, 4 process uint32, 5 boot text, 6 process_began uint,
    7 begun_ns int, 8 program text, 9 operation text
Seen: 1 session bytes 16, 2 records [uint]?
End: 1 session bytes 16, 2 at_ns int
Condemned: 1 number uint, 2 session bytes 16, 3 at_ns int, 4 packs [bytes 32]?, 5 segments [bytes 32]?,
    6 snapshots [bytes 16]?, 7 kept_segments [bytes 32]?, 8 voucher Voucher?
Run: 1 id bytes 16, 2 operation text, 3 begun_ns int, 4 ended_ns int, 5 host text, 6 program text, 7 outcome Outcome,
    8 session bytes 16?, 9 snapshots [bytes 16]?, 10 figures [Figure]?, 11 problems [StoredProblem]?,
    12 previous [RunRef]?, 13 slot bytes 16?, 14 sequence uint, 15 ledger bytes 32?, 16 unverified bool?,
    17 profile text?, 18 by text?, 19 phases [RunPhase]?, 20 tables [RunTable]?
RunPhase: 1 name text, 2 outcome text, 3 message text, 4 duration_ms uint, 5 figures [Figure]?, 6 kind text?
RunTable: 1 source text, 2 name text, 3 rows uint, 4 bytes uint
RunRef: 1 id bytes 16, 2 hash bytes 32
History: 1 id bytes 16, 2 made_ns int, 3 runs [Run]?, 4 dropped_before_ns int?, 5 dropped [RunRef]?
Ledger: 1 run bytes 16, 2 at_ns int, 3 covers [bytes 16]?, 4 packs [PacksRead]?, 5 snapshots [SnapshotsFound]?
PacksRead: 1 at_ns int, 2 packs bytes?, 3 damaged bool?
SnapshotsFound: 1 at_ns int, 2 finding Finding, 3 snapshots [bytes 16]?
Figure: 1 name text, 2 value uint
"""

# Rows: items in order; those behind the bar are there all or not at all.
ROWS = """
Block: offset uint, length uint32, key uint32
Frame: block uint32, offset uint32, length uint32, raw uint32, encoding Encoding | bases ids, depth uint32,
    delta uint, whole uint
Blob: id bytes 32, kind BlobKind, frame uint32, offset uint32, length uint32 | start mark, end mark
PageRef: offset uint, length uint32, rows uint32, first id_or_null
PackRow: id bytes 32, size uint, role Role, written_ns int
FrameRow: pack uint32, block_offset uint, block_length uint32, key uint32, offset uint32, length uint32, raw uint32,
    encoding Encoding | bases ids, depth uint32, delta uint, whole uint
Entry: id bytes 32, frame uint32, offset uint32, length uint32, kind BlobKind | start mark, end mark
Xattr: name bytes, value bytes
"""

ENUMERATIONS = {
    "GuardKind": (1, 2, 3, 4),
    "Access": (1,),
    "Role": (1, 2),
    "BlobKind": (0, 1, 2),
    "Encoding": (0, 1, 2),
    "NodeKind": (0, 1, 2, 3, 4, 5, 6),
    "SessionKind": (1, 2, 3),
    "Outcome": (0, 1, 3, 4, 11, 130, 137),
    "Finding": (1, 2, 3),
}
PASSPHRASE, KEY_FILE, COMMAND, RECIPIENT = ENUMERATIONS["GuardKind"]
DATA_ROLE, METADATA_ROLE = ENUMERATIONS["Role"]
DATA, TREE, LIST = ENUMERATIONS["BlobKind"]
RAW, ZSTD, ZSTD_ON_BASES = ENUMERATIONS["Encoding"]
FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, CHAR_DEVICE, BLOCK_DEVICE = ENUMERATIONS["NodeKind"]

NO_FIELD = {"bytes": b"", "ids": (), "bool": False}  # what an absent field of such a type reads as; else None, or []


def definitions(text):
    for entry in re.split(r"\n(?=\w)", text.strip()):
        name, fields = entry.split(":", 1)
        yield name, [" ".join(field.split()) for field in re.split(r"([,|])", fields)]


def structure_table():
    table = {}
    for name, fields in definitions(STRUCTURES):
        table[name] = []
        for field in fields[::2]:
            key, label, kind = field.split(" ", 2)
            optional = kind.endswith("?")
            table[name].append((int(key), label, kind.rstrip("?"), optional))
    return table


def row_table():
    table = {}
    for name, parts in definitions(ROWS):
        bar = parts.index("|") // 2 + 1 if "|" in parts else None
        fields = [tuple(field.split(" ", 1)) for field in parts[::2]]
        table[name] = (SimpleNamespace, [label for label, _ in fields], [kind for _, kind in fields], bar or len(fields))
    return table


STRUCTURE_FIELDS = structure_table()
ROW_FIELDS = row_table()


def decode(structure, raw):
    """The structure of that name, with its fields as attributes. Fields that the table does not have are passed over."""
    return shape(structure, decode_cbor(raw))


def shape(kind, value):
    return shaper(kind)(value)


@lru_cache(maxsize=None)
def shaper(kind):
    """A function that takes what CBOR gave and returns the value of that type, or says that it is none."""
    if kind.startswith("["):
        item = shaper(kind[1:-1])
        return lambda value: [item(one) for one in typed(value, list, kind)]
    if kind in ("uint", "uint32", "int"):
        low, high = {"uint": (0, 1 << 64), "uint32": (0, 1 << 32), "int": (-1 << 63, 1 << 63)}[kind]
        return lambda value: number(value, low, high, kind)
    if kind in ("bytes", "text", "bool"):
        expected = {"bytes": bytes, "text": str, "bool": bool}[kind]
        return lambda value: typed(value, expected, kind)
    if kind.startswith("bytes "):
        return lambda value: exactly(value, int(kind[6:]))
    if kind == "mark":
        return lambda value: None if value is None else exactly(value, 8)
    if kind == "id_or_null":
        return lambda value: None if value is None else exactly(value, 32)
    if kind == "ids":
        return split_ids
    if kind in ENUMERATIONS:
        known = set(ENUMERATIONS[kind])
        return lambda value: value if number(value, 0, 1 << 32, kind) in known else unknown(kind, value)
    if kind in ROW_FIELDS:
        return lambda value: shape_row(kind, value)
    return lambda value: shape_structure(kind, value)


def typed(value, expected, kind):
    require(isinstance(value, expected), f"a value that is not of the type {kind}")
    return value


def number(value, low, high, kind):
    require(isinstance(value, int) and not isinstance(value, bool) and low <= value < high, f"a value that is not {kind}")
    return value


def exactly(value, length):
    require(isinstance(value, bytes) and len(value) == length, f"a value that is not {length} bytes")
    return value


def unknown(kind, value):
    raise Damage(f"{value} is no {kind}")


def split_ids(value):
    require(isinstance(value, bytes) and len(value) % 32 == 0, "ids that are not 32 bytes each")
    return [value[at : at + 32] for at in range(0, len(value), 32)]


def shape_row(kind, value):
    make, labels, kinds, needed = ROW_FIELDS[kind]
    require(isinstance(value, list) and len(value) in (needed, len(labels)), f"a {kind} of the wrong length")
    row = make(**{label: shaper(of)(item) for label, of, item in zip(labels, kinds, value)})
    if "bases" in labels:
        require((row.encoding == ZSTD_ON_BASES) == (len(value) == len(labels)), "bases that do not fit the encoding")
        row.bases = getattr(row, "bases", [])
        row.depth = getattr(row, "depth", 0)
    return row


def shape_structure(kind, value):
    require(isinstance(value, dict), f"a {kind} that is no map")
    require(all(isinstance(key, int) and key >= 0 for key in value), f"keys of a {kind} that are no numbers")
    structure = SimpleNamespace()
    for key, label, of, optional in STRUCTURE_FIELDS[kind]:
        if key in value:
            field = shaper(of)(value[key])
            empty = field is False or (isinstance(field, (bytes, list)) and not field)
            require(not (optional and empty), f"an empty field {label} in a {kind}")
        else:
            require(optional, f"a {kind} without {label}")
            field = [] if of.startswith("[") else NO_FIELD.get(of)
        setattr(structure, label, field)
    return structure


# --- Keys and seals (sections 3 and 4) --------------------------------------------------------------------------------

MAGIC = b"KEEP"
HEADER = struct.Struct("<4sHBB16s")  # magic, version, kind, flags, key id
TRAILER = struct.Struct("<4sHBBII")  # magic, version, kind, 0, length of the envelope before it, 0

KINDS = {
    "Config": 1, "Slot": 2, "Epoch": 3, "Data": 4, "Metadata": 5, "Directory": 6, "Page": 7, "Head": 8, "Snapshot": 9,
    "Session": 10, "Seen": 11, "End": 12, "Condemned": 13, "Tombstone": 14, "Run": 15,
    "Ledger": 20, "History": 21,
}  # fmt: skip
DEDUP, INDEX, METADATA_CLASS, DATA_CLASS = 1, 2, 3, 4
CLASS_NAMES = {DEDUP: "dedup", INDEX: "index", METADATA_CLASS: "metadata", DATA_CLASS: "data"}
CLASS_OF = {
    "Data": DATA_CLASS, "Metadata": METADATA_CLASS, "Snapshot": METADATA_CLASS, "Run": METADATA_CLASS,
    "Directory": INDEX, "Page": INDEX, "Head": INDEX, "Session": INDEX, "Seen": INDEX, "End": INDEX,
    "Condemned": INDEX, "Tombstone": INDEX, "Ledger": METADATA_CLASS, "History": METADATA_CLASS,
}  # fmt: skip


def derive(context, key, length=32):
    return blake3(key, derive_key_context=context).digest(length=length)


def siv_open(key, associated, sealed, what):
    """The text of SIV(key; associated; text), or damage. The tag stands before the ciphertext."""
    require(len(sealed) > 16, f"{what} is too short")
    try:
        return AESSIV(key).decrypt(sealed, associated)
    except InvalidTag:
        raise Damage(f"the seal of {what} does not hold") from None


def block_header(kind, key_id, repository):
    """The first associated string of a block, which has no header of its own."""
    return HEADER.pack(MAGIC, 1, KINDS[kind], 0, key_id) + repository


def check_header(raw, kinds, what):
    """Magic, version and kind, as every object and trailer has them. Returns the kind's name."""
    require(len(raw) >= 8 and raw[:4] == MAGIC, f"{what} does not begin as Keepstone's do")
    version, kind = struct.unpack_from("<HB", raw, 4)
    require(version != 0, f"{what} has version 0")
    require(version == 1, f"{what} has version {version}: it needs a newer reader, unless it is damaged")
    for name in kinds:
        if KINDS[name] == kind:
            return name
    raise Damage(f"{what} is of kind {kind}, not {' or '.join(kinds)}")


# HPKE (RFC 9180) with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20Poly1305, as the receiver of one message.
KEM_SUITE = b"KEM" + struct.pack(">H", 0x0020)
HPKE_SUITE = b"HPKE" + struct.pack(">HHH", 0x0020, 0x0001, 0x0003)


def hpke_open(private, encapsulated, sealed, info, associated, psk=b"", psk_id=b""):
    shared = hpke_shared_secret(private, encapsulated)
    mode = 1 if psk else 0
    context = bytes([mode]) + hpke_extract(HPKE_SUITE, b"", b"psk_id_hash", psk_id)
    context += hpke_extract(HPKE_SUITE, b"", b"info_hash", info)
    secret = hpke_extract(HPKE_SUITE, shared, b"secret", psk)
    key = hpke_expand(HPKE_SUITE, secret, b"key", context, 32)
    nonce = hpke_expand(HPKE_SUITE, secret, b"base_nonce", context, 12)
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        raise Damage("a wrapped key does not open") from None


def hpke_shared_secret(private, encapsulated):
    key = X25519PrivateKey.from_private_bytes(private)
    try:
        exchanged = key.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    except ValueError:  # a point of low order
        raise Damage("a wrapped key does not open") from None
    secret = hpke_extract(KEM_SUITE, b"", b"eae_prk", exchanged)
    return hpke_expand(KEM_SUITE, secret, b"shared_secret", encapsulated + public_of(private), 32)


def hpke_extract(suite, salt, label, key):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + key, sha256)


def hpke_expand(suite, secret, label, info, length):
    """HKDF-Expand for at most one block of output."""
    labelled = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
    return hmac.digest(secret, labelled + b"\1", sha256)[:length]


def public_of(private):
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


class Secret:
    """What the user gave: a passphrase, or the content of a key file."""

    def __init__(self, passphrase=None, key_file=None):
        self.passphrase = passphrase
        self.file_key = None if key_file is None else derive("keepstone v1 key file", key_file_material(key_file), 64)

    def guards(self, kind):
        return kind == PASSPHRASE if self.file_key is None else kind in (KEY_FILE, COMMAND)

    def guard_key(self, guard):
        """The key G that a slot's private half is sealed under (section 6)."""
        if self.file_key is not None:
            return self.file_key
        require(len(guard.salt) == 16 and guard.memory_kib and guard.passes and guard.lanes, "a guard without its fields")
        bounded = guard.memory_kib <= 65536 and guard.passes <= 16 and guard.lanes <= 4
        require(bounded and guard.memory_kib >= 8 * guard.lanes, "a guard that asks for more work than it may")
        work = dict(time_cost=guard.passes, memory_cost=guard.memory_kib, parallelism=guard.lanes)
        return hash_secret_raw(self.passphrase, guard.salt, hash_len=64, type=Type.ID, version=0x13, **work)


def key_file_material(content):
    if not 16 <= len(content) <= 65536:
        raise Failure(WRONG_KEY, "a key file has 16 bytes to 64 KiB")
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        lines = []
    for line in (line.strip() for line in lines):
        if line.startswith("KEEPSTONE-KEY-1"):
            digits = line[len("KEEPSTONE-KEY-1") :].replace("-", "").replace(" ", "")
            if not re.fullmatch("[0-9a-fA-F]{72}", digits):
                raise Failure(WRONG_KEY, "the key line of the key file does not have 72 hexadecimal digits")
            key, check = bytes.fromhex(digits[:64]), bytes.fromhex(digits[64:])
            if derive("keepstone v1 key file check", key, 4) != check:
                raise Failure(WRONG_KEY, "the key line of the key file has a mistake: its check does not match")
            return key
    return derive("keepstone v1 key file content", content)


class Keyring:
    """The class keys of all epochs, and session keys as they are met."""

    def __init__(self, root, repository):
        self.root, self.repository = root, repository
        self.keys = {}  # (class, id) -> key
        self.sessions = set()  # ids of those that are of sessions: anybody could have made them
        self.newest_epoch = ()
        self.naming = None

    def add_epoch(self, epoch):
        for entry in epoch.classes:
            require(entry.class_ in CLASS_NAMES, f"a key of class {entry.class_}")
            name = CLASS_NAMES[entry.class_]
            bound = b"keepstone v1 class" + epoch.id + struct.pack("<BI", entry.class_, entry.number) + entry.id
            wrapping = derive(f"keepstone v1 wrap {name}", self.root, 64)
            key = siv_open(wrapping, [bound], entry.sealed, f"the {name} key")
            require(len(key) == 32 and derive("keepstone v1 key id", key, 16) == entry.id, f"the {name} key has another id")
            self.keys[entry.class_, entry.id] = key
            if entry.class_ == DEDUP and (epoch.number, epoch.id) > self.newest_epoch:
                self.newest_epoch = (epoch.number, epoch.id)
                self.naming = derive("keepstone v1 blob names", key)

    def unwrap(self, class_, wrap):
        """A session key that was wrapped to the recipient of one of our class keys. Returns its id."""
        require(class_ in (METADATA_CLASS, DATA_CLASS), "a session key where only keys of an epoch may be")
        ours = self.keys.get((class_, wrap.recipient))
        require(ours, f"a session key is wrapped to {wrap.recipient.hex()}, which no epoch holds")
        require(len(wrap.wrapped) == 81, "a key wrap of the wrong length")
        private = derive("keepstone v1 session key recipient", ours)
        enc, sealed = wrap.wrapped[:32], wrap.wrapped[32:]
        opened = hpke_open(private, enc, sealed, b"keepstone v1 session key", self.repository)
        require(len(opened) == 33 and opened[0] == class_, "a session key of another class")
        key_id = derive("keepstone v1 key id", opened[1:], 16)
        if (class_, key_id) not in self.keys:
            self.keys[class_, key_id] = opened[1:]
            self.sessions.add(key_id)
        return key_id

    def seal_key(self, kind, key_id):
        key = self.keys.get((CLASS_OF[kind], key_id))
        require(key, f"it is sealed under key {key_id.hex()}, which no epoch holds: it is damaged, or an epoch is missing")
        return derive(f"keepstone v1 {CLASS_NAMES[CLASS_OF[kind]]} object {KINDS[kind]}", key, 64)

    def open_envelope(self, raw, kinds):
        """The kind and the content of an object that stands alone."""
        kind = check_header(raw, kinds, "the object")
        require(len(raw) >= 56 + 4, "it is too short")
        _, _, _, flags, key_id = HEADER.unpack_from(raw)
        require(flags & ~1 == 0, "it has unknown flags")
        nonce, at, wrap = raw[24:40], 40, b""
        if flags & 1:
            length = int.from_bytes(raw[40:42], "little")
            require(1 <= length <= MAX_WRAP_BYTES and 42 + length < len(raw), "its key wrap has a wrong length")
            wrap, at = raw[42 : 42 + length], 42 + length
            require(self.unwrap(CLASS_OF[kind], decode("KeyWrap", wrap)) == key_id, "its key wrap holds another key")
        if key_id in self.sessions:
            require(kind in ("Snapshot", "Run"), "it is sealed under a session key: anybody could have made it")
        key = derive("keepstone v1 epoch", self.root, 64) if kind == "Epoch" else self.seal_key(kind, key_id)
        text = siv_open(key, [raw[:24] + self.repository + wrap, nonce], raw[at:], "the object")
        require(len(text) >= 4, "it is too short")
        length = int.from_bytes(text[:4], "little")
        require(length <= len(text) - 4, "its content is longer than it is")
        require(not any(text[4 + length :]), "its padding is not zero")
        return kind, text[4 : 4 + length]

    def open_block(self, kind, key_id, raw, more=b""):
        require(len(raw) > 32, "a block is too short")
        header = block_header(kind, key_id, self.repository) + more
        return siv_open(self.seal_key(kind, key_id), [header, raw[:16]], raw[16:], "a block")

    def name(self, blob):
        return blake3(blob, key=self.naming).digest()


# --- The store: a folder of objects (section 2) -----------------------------------------------------------------------


class Store:
    """Reads objects, whole or in part, and never more than it was told to expect."""

    def __init__(self, folder):
        self.folder = folder

    def open(self, name):
        try:
            return open(os.path.join(self.folder, name), "rb")
        except FileNotFoundError:
            raise Damage("it is missing") from None
        except OSError as error:
            raise Damage(f"it cannot be read: {error.strerror}") from None

    def read(self, name, limit):
        with self.open(name) as file:
            size = os.fstat(file.fileno()).st_size
            require(size <= limit, f"it has {size} bytes, more than the {limit} that it may have")
            return read_exactly(file, 0, size)

    def read_range(self, name, offset, length):
        with self.open(name) as file:
            return read_exactly(file, offset, length)

    def list(self, area, form):
        """Names in an area that have the form; all others are passed over."""
        try:
            names = os.listdir(os.path.join(self.folder, area))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if re.fullmatch(form, name))

    def list_double(self, area):
        """The ids of objects that lie there twice, whether both, or only one of them, are there."""
        return sorted({name[:32] for name in self.list(area, ID16 + r"(\.copy)?")})

    def packs(self):
        for two in self.list("packs", "[0-9a-f]{2}"):
            for name in self.list(f"packs/{two}", two + "[0-9a-f]{62}"):
                yield bytes.fromhex(name)

    def copies(self, name, twice=True):
        """An object that lies there twice, and its copy if that differs."""
        first = None
        for place in (name, name + ".copy") if twice else (name,):
            try:
                raw = self.read(place, MAX_CONFIG_BYTES)
            except Damage as error:
                yield place, None, error
                continue
            if raw != first:
                yield place, raw, None
            first = raw


def read_exactly(file, offset, length):
    try:
        file.seek(offset)
        raw = file.read(length)
    except OSError as error:
        raise Damage(f"it cannot be read: {error.strerror}") from None
    require(len(raw) == length, f"it ends before byte {offset + length}")
    return raw


def pack_name(pack):
    return f"packs/{pack.hex()[:2]}/{pack.hex()}"


ID16, ID32 = "[0-9a-f]{32}", "[0-9a-f]{64}"
CONDEMNED = r"[0-9]{10}(\.done|\.spared)?"


# --- Opening: from the passphrase to the keys (sections 5 to 7 and 15) ------------------------------------------------


class Repository:
    """A repository whose keys are known."""

    def __init__(self, folder, secret, report):
        self.store, self.report = Store(folder), report
        configs = self._read_configs()
        self.ring, self.slot = self._root_from_slots(configs, secret)
        self.config = self._proven_config(configs)
        self._read_epochs()

    def _read_configs(self):
        """What `config` and its copy say, the higher revision first. Nothing of it is proven yet. While the root key is
        exchanged there is one of the next revision besides."""
        configs = []
        exchanges = self.store.list("", r"config\.[0-9]{10}")
        copies = [copy for name in ("config", *exchanges) for copy in self.store.copies(name, twice=name == "config")]
        for place, raw, error in copies:
            try:
                if error:
                    raise error
                check_header(raw, ["Config"], place)
                require(raw[7] == 0 and len(raw) >= 60, "it is too short, or has flags")
                require(int.from_bytes(raw[56:60], "little") == len(raw) - 60, "its length does not fit")
                configs.append(SimpleNamespace(place=place, raw=raw, root_id=raw[8:24], told=decode("Config", raw[60:])))
            except Damage as error:
                if os.path.lexists(os.path.join(self.store.folder, "keys")):
                    self.report.damage(place, error)
        if not configs:
            raise Failure(NO_REPOSITORY, f"there is no readable config in {shown(self.store.folder)}: is it a repository?")
        return sorted(configs, key=lambda config: -config.told.revision)

    def _root_from_slots(self, configs, secret):
        """The root key, from the first slot that what the user gave opens."""
        tried = set()
        for config in configs:
            if (config.root_id, config.told.repository) in tried:
                continue
            tried.add((config.root_id, config.told.repository))
            for slot in self.store.list_double("keys"):
                root = self._root_from_slot(f"keys/{slot}", config, secret)
                if root:
                    return Keyring(root, config.told.repository), slot
        for config in configs:
            refuse_unknown_features(config.told)
        what = "key file" if secret.passphrase is None else "passphrase"
        raise Failure(WRONG_KEY, f"this {what} opens no key slot of the repository")

    def _root_from_slot(self, name, config, secret):
        """A slot may be of another root or another secret: that is no damage. A first copy that fails where the second
        opens is."""
        failed = []
        for place, raw, error in self.store.copies(name):
            try:
                if error:
                    raise error
                slot = decode_slot(raw)
                # The slot of a client that may only write grants no root key, and nothing to read with.
                if raw[8:24] != config.root_id or not secret.guards(slot.guard.kind) or slot.access:
                    continue
                root = open_slot(raw, slot, config, secret)
            except Damage as error:
                failed.append((place, error))
                continue
            for damaged, error in failed:
                self.report.damage(damaged, error)
            return root
        return None

    def _proven_config(self, configs):
        root = self.ring.root
        proof_key = derive("keepstone v1 config proof", root)
        for config in configs:
            proof = blake3(config.raw[:24] + config.raw[60:], key=proof_key).digest()
            if config.root_id == root_id(root) and hmac.compare_digest(proof, config.raw[24:56]):
                require(config.told.repository == self.ring.repository, "configs of two repositories")
                refuse_unknown_features(config.told)
                return config.told
            self.report.damage(config.place, "its proof does not hold")
        raise Failure(DAMAGED, "no copy of config carries a proof that holds")

    def _read_epochs(self):
        for epoch in self.store.list_double("epochs"):
            for place, raw, error in self.store.copies(f"epochs/{epoch}"):
                try:
                    if error:
                        raise error
                    if not self._add_epoch(epoch, raw):
                        continue
                    break
                except Damage as error:
                    self.report.damage(place, error)
        if self.ring.naming is None:
            raise Failure(DAMAGED, "no epoch of this repository can be opened")

    def _add_epoch(self, epoch_id, raw):
        check_header(raw, ["Epoch"], "the object")
        if raw[8:24] != root_id(self.ring.root):
            return False
        epoch = self.decode_object(raw, "Epoch")
        require(epoch.id.hex() == epoch_id, "it is another epoch")
        order = [entry.class_ for entry in epoch.classes]
        require(order == sorted(set(order)), "classes out of order")
        for held in epoch.before:
            self._add_held_epoch(held)
        self.ring.add_epoch(epoch)
        return True

    def _add_held_epoch(self, raw):
        """An earlier epoch that a later one holds. What does not open was sealed under a root key that was exchanged."""
        try:
            self.ring.add_epoch(decode("Epoch", raw))
        except Damage:
            pass

    def decode_object(self, raw, *kinds):
        kind, content = self.ring.open_envelope(raw, kinds)
        decoded = decode(kind, content)
        decoded.object_kind = kind
        if raw[8:24] in self.ring.sessions:
            require(decoded.unverified, "a client that may only write made it and says that it was another")
        return decoded

    def snapshots(self):
        """All snapshots, oldest first."""
        found = []
        for name in self.store.list("snapshots", ID16):
            try:
                snapshot = self.decode_object(self.store.read(f"snapshots/{name}", 16 << 20), "Snapshot", "Tombstone")
                if snapshot.object_kind == "Snapshot":
                    require(snapshot.id.hex() == name, "it is another snapshot")
                    found.append(snapshot)
            except Damage as error:
                self.report.damage(f"snapshots/{name}", error)
        return sorted(found, key=lambda snapshot: (snapshot.time_ns, snapshot.id))

    def snapshot(self, wanted):
        snapshots = self.snapshots()
        if wanted == "latest":
            matching = snapshots[-1:]
        else:
            matching = [snapshot for snapshot in snapshots if snapshot.id.hex().startswith(wanted)]
        if len(matching) != 1:
            some = "no readable snapshot is" if not matching else f"{len(matching)} snapshots are"
            raise Failure(FAILED, f"{some} named {wanted}; `snapshots` lists them")
        return matching[0]


def root_id(root):
    return derive("keepstone v1 root key id", root, 16)


def refuse_unknown_features(config):
    unknown_features = [name for name in config.reader_features if name not in FEATURES]
    if unknown_features:
        names = ", ".join(shown(name) for name in unknown_features)
        raise Failure(REFUSED, f"the repository needs a reader that knows: {names}; this one does not")


def decode_slot(raw):
    check_header(raw, ["Slot"], "the slot")
    require(len(raw) >= 28 and raw[7] == 0, "it is too short, or has flags")
    require(int.from_bytes(raw[24:28], "little") == len(raw) - 28, "its length does not fit")
    return decode("Slot", raw[28:])


def open_slot(raw, slot, config, secret):
    """The root key that a slot grants to who has its secret (section 6)."""
    guard_key = secret.guard_key(slot.guard)
    opened = siv_open(guard_key, [b"keepstone v1 slot private"], slot.guard.sealed, "the slot's private half")
    require(len(opened) == 64, "the slot's private half has a wrong length")
    return accept_grant(raw, slot, config.told.repository, opened[:32], opened[32:])


def accept_grant(raw, slot, repository, private, grant_key):
    require(slot.grant is not None, "the slot grants nothing")
    require(public_of(private) == slot.public, "the slot's public half belongs to another private half")
    associated = raw[:24] + without_field(raw[28:], 7)
    sealed = slot.grant.sealed
    info = b"keepstone v1 grant" + repository
    psk_id = b"keepstone v1 grant psk" if grant_key else b""  # a recipient has no grant key: base mode
    root = hpke_open(private, slot.grant.encapsulated, sealed, info, associated, grant_key, psk_id)
    require(len(root) == 32 and root_id(root) == raw[8:24], "the slot grants another root key")
    return root


def without_field(raw, left_out):
    """The CBOR of a map without one of its fields; the other bytes as they are."""
    count, at = raw[0] & 31, 1
    require(raw[0] >> 5 == 5 and count < 24, "a map of too many fields")
    kept = b""
    for _ in range(count):
        key, value_at = cbor_item(raw, at, 0)
        _, end = cbor_item(raw, value_at, 0)
        if key == left_out:
            count -= 1
        else:
            kept += raw[at:end]
        at = end
    return bytes([0xA0 | count]) + kept


# --- Blobs: from a name to its bytes (sections 8 and 9) ---------------------------------------------------------------


class Recent:
    """The values last used, up to a sum of bytes."""

    def __init__(self, limit):
        self.limit, self.bytes, self.values = limit, 0, OrderedDict()

    def get(self, key, make):
        if key in self.values:
            self.values.move_to_end(key)
            return self.values[key]
        value = make()
        self.values[key] = value
        self.bytes += len(value)
        while self.bytes > self.limit and len(self.values) > 1:
            self.bytes -= len(self.values.popitem(last=False)[1])
        return value


class Blobs:
    """Finds blobs through the index segments, and through the directories of the packs where those do not help.

    The places of blobs lie in a temporary SQLite database on disk: memory stays flat however large the repository.
    """

    def __init__(self, repository, from_packs=False):
        self.store, self.ring, self.report = repository.store, repository.ring, repository.report
        self.packs, self.pack_numbers = [], {}
        self.blocks, self.frames = Recent(CACHED_BYTES), Recent(CACHED_BYTES)
        self.frames_of_this_chain = 0
        self.places = sqlite3.connect("")
        self.places.executescript(
            """
            CREATE TABLE frames (number INTEGER PRIMARY KEY, pack INTEGER, role INTEGER, block_offset INTEGER,
                block_length INTEGER, key BLOB, offset INTEGER, length INTEGER, raw INTEGER, encoding INTEGER,
                bases BLOB, depth INTEGER);
            CREATE TABLE blobs (id BLOB, kind INTEGER, frame INTEGER, offset INTEGER, length INTEGER);
            CREATE INDEX by_id ON blobs (id);
            """
        )
        self.condemned = self._condemned_packs()
        self.have_packs = False
        if from_packs:
            self._learn_from_packs()
        else:
            self._learn_from_segments()

    # Where blobs lie.

    def _condemned_packs(self):
        """Packs that prune is going to delete, with the number of the highest record that names them. They may still
        be there, so they are tried last."""
        condemned, spared = {}, set()
        for name in self.store.list("condemned", CONDEMNED):
            try:
                record = read_condemned(self, name)
            except Damage as error:
                self.report.damage(f"condemned/{name}", error)
                continue
            if name.endswith(".spared"):
                spared.update(record.packs)
                continue
            for pack in record.packs:
                condemned[pack] = max(record.number, condemned.get(pack, 0))
        return {pack: number for pack, number in condemned.items() if pack not in spared}

    def _learn_from_segments(self):
        heads = []
        for name in self.store.list("index", ID32):
            try:
                heads.append(Segment(self, name))
            except Damage as error:
                self.report.damage(f"index/{name}", error)
        superseded = set()
        for segment in sorted(heads, key=lambda segment: -segment.head.written_ns):
            if segment.id in superseded:
                continue
            try:
                segment.learn(self)
                superseded.update(segment.head.supersedes)
            except Damage as error:
                self.report.damage(f"index/{segment.id.hex()}", error)

    def _learn_from_packs(self):
        self.have_packs = True
        for pack in self.store.packs():
            try:
                directory = read_directory(self, pack)
            except Damage as error:
                self.report.damage(pack_name(pack), error)
                continue
            numbers = self.add_frames(pack_frame_rows(directory, self._pack_number(pack)))
            self.add_blobs((blob.id, blob.kind, numbers[blob.frame], blob.offset, blob.length) for blob in directory.blobs)

    def _pack_number(self, pack):
        if pack not in self.pack_numbers:
            self.pack_numbers[pack] = len(self.packs)
            self.packs.append(pack)
        return self.pack_numbers[pack]

    def add_frames(self, rows):
        """Takes rows of (pack number, role, block offset, block length, key, frame) and returns their numbers."""
        first = self.places.execute("SELECT coalesce(max(number) + 1, 0) FROM frames").fetchone()[0]
        stored = [
            (first + number, *place, frame.offset, frame.length, frame.raw, frame.encoding, b"".join(frame.bases), frame.depth)
            for number, (*place, frame) in enumerate(rows)
        ]
        self.places.executemany("INSERT INTO frames VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", stored)
        return range(first, first + len(stored))

    def add_blobs(self, rows):
        self.places.executemany("INSERT INTO blobs VALUES (?,?,?,?,?)", rows)

    def _places(self, blob, kind):
        found = self.places.execute(
            """
            SELECT DISTINCT pack, role, block_offset, block_length, key, frames.offset, frames.length, raw, encoding, bases,
                depth, blobs.offset, blobs.length
            FROM blobs JOIN frames ON frame = number WHERE id = ? AND kind = ?
            """,
            (blob, kind),
        ).fetchall()
        return sorted(found, key=lambda place: self.packs[place[0]] in self.condemned)

    # What they hold.

    def get(self, blob, kind):
        """The bytes of a blob, from the first place that gives what its name says."""
        self.frames_of_this_chain = 0
        return self._get(blob, kind, MAX_CHAIN_DEPTH + 1)

    def _get(self, blob, kind, below):
        tried = set()
        while True:
            for place in self._places(blob, kind):
                if place in tried:
                    continue
                tried.add(place)
                try:
                    return self._take(blob, kind, place, below)
                except Damage as error:
                    pack = self.packs[place[0]]
                    if pack not in self.condemned:
                        self.report.damage(pack_name(pack), error)
            if self.have_packs:
                raise Damage(f"blob {blob.hex()} is nowhere" if not tried else f"blob {blob.hex()} cannot be read")
            print("looking for blobs in the directories of all packs", file=sys.stderr)
            if not tried:
                self.report.damage("index", f"it does not know blob {blob.hex()}")
            self._learn_from_packs()

    def _take(self, blob, kind, place, below):
        *frame, offset, length = place
        depth = place[10]
        require(depth < below, f"blob {blob.hex()} stands on bases that are not below it")
        raw = self.frames.get(tuple(frame[:7]), lambda: self._frame(kind, *frame))
        require(offset + length <= len(raw), f"blob {blob.hex()} lies outside its frame")
        taken = raw[offset : offset + length]
        require(self.ring.name(taken) == blob, f"what lies at the place of blob {blob.hex()} has another name")
        return taken

    def _frame(self, kind, pack, role, block_offset, block_length, key, offset, length, raw, encoding, bases, depth):
        self.frames_of_this_chain += 1
        require(self.frames_of_this_chain <= MAX_FRAMES_OF_A_CHAIN, "a chain of bases without end")
        block = self.blocks.get((pack, block_offset), lambda: self._block(pack, role, block_offset, block_length, key))
        require(offset + length <= len(block), "a frame lies outside its block")
        bases = [self._get(base, kind, depth) for base in split_ids(bases)]
        return decode_frame(encoding, block[offset : offset + length], raw, bases)

    def _block(self, pack, role, offset, length, key):
        require(32 < length <= MAX_BLOCK_BYTES, f"a block of {length} bytes")
        kind = "Data" if role == DATA_ROLE else "Metadata"
        if (CLASS_OF[kind], key) not in self.ring.keys:
            read_directory(self, self.packs[pack])  # the key may be of a session, and lie there
        sealed = self.store.read_range(pack_name(self.packs[pack]), offset, length)
        return self.ring.open_block(kind, key, sealed)


def decode_frame(encoding, stored, raw_bytes, bases):
    """What a frame holds: exactly as many bytes as were announced, and no more are ever made."""
    require(raw_bytes <= MAX_FRAME_RAW_BYTES, f"a frame of {raw_bytes} bytes")
    if encoding == RAW:
        require(len(stored) == raw_bytes, "a raw frame of another length")
        return stored
    prefix = None
    if encoding == ZSTD_ON_BASES:
        prefix = zstandard.ZstdCompressionDict(b"".join(bases), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    try:
        told = zstandard.frame_content_size(stored)
        require(told in (-1, raw_bytes), "a frame that would decode to another length")
        decoder = zstandard.ZstdDecompressor(dict_data=prefix, max_window_size=1 << 26)
        decoded = decoder.decompress(stored, max_output_size=raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damage(f"a frame does not decode: {error}") from None
    require(len(decoded) == raw_bytes, "a frame that decodes to another length")
    return decoded


def read_condemned(reader, name):
    record = reader.ring.open_envelope(reader.store.read(f"condemned/{name}", 64 << 20), ["Condemned"])[1]
    record = decode("Condemned", record)
    require(record.number == int(name[:10]), "it is another record")
    return record


def read_tail(store, name, kind):
    """The envelope at the end of a pack or segment, where it begins, and the size of the whole."""
    with store.open(name) as file:
        size = os.fstat(file.fileno()).st_size
        require(size >= 32 + 60 + 16, "it is too short")
        trailer = read_exactly(file, size - 16, 16)
        check_header(trailer, [kind], "its trailer")
        _, _, _, zero, length, zeros = TRAILER.unpack(trailer)
        require(zero == zeros == 0, "its trailer has unknown flags")
        require(60 <= length <= min(size - 48, 2 * MAX_DIRECTORY_BYTES), f"its {kind} cannot have {length} bytes")
        begin = size - 16 - length
        return read_exactly(file, begin, length), begin, size


def read_directory(reader, pack):
    """The directory of a pack, checked. Session keys in it are added to the ring."""
    raw, end, _ = read_tail(reader.store, pack_name(pack), "Directory")
    directory = decode("Directory", reader.ring.open_envelope(raw, ["Directory"])[1])
    for wrap in directory.wraps:
        try:
            reader.ring.unwrap(DATA_CLASS if directory.role == DATA_ROLE else METADATA_CLASS, wrap)
        except Damage as error:
            reader.report.damage(pack_name(pack), error)
    check_directory(directory, end)
    return directory


def check_directory(directory, end):
    """Everything lies in order, without overlap, in what holds it."""
    for part in (directory.blocks, directory.frames, directory.blobs):
        require(len(part) <= MAX_IN_PACK, "a directory with too many items")
    at = 32
    for block in directory.blocks:
        require(at <= block.offset and 32 < block.length <= MAX_BLOCK_BYTES, "blocks that overlap or are too long")
        require(block.key < len(directory.keys), "a block without a key")
        at = block.offset + block.length
        require(at <= end, "a block outside the pack")
    before = (0, 0)
    for frame in directory.frames:
        require(before <= (frame.block, frame.offset) and frame.block < len(directory.blocks), "frames out of order")
        before = (frame.block, frame.offset + frame.length)
        require(before[1] <= directory.blocks[frame.block].length - 32, "a frame outside its block")
        check_frame(frame)
    before, blobs_of = (0, 0), {}
    for blob in directory.blobs:
        require(before <= (blob.frame, blob.offset) and blob.frame < len(directory.frames), "blobs out of order")
        before = (blob.frame, blob.offset + blob.length)
        require(before[1] <= directory.frames[blob.frame].raw, "a blob outside its frame")
        require((blob.kind == DATA) == (directory.role == DATA_ROLE), "a blob in a pack of the wrong role")
        blobs_of[blob.frame] = blobs_of.get(blob.frame, 0) + 1
    for number, frame in enumerate(directory.frames):
        require(frame.encoding != ZSTD_ON_BASES or blobs_of.get(number, 0) == 1, "a frame on bases of several blobs")


def check_frame(frame):
    require(frame.raw <= MAX_FRAME_RAW_BYTES, f"a frame of {frame.raw} bytes")
    if frame.encoding == ZSTD_ON_BASES:
        require(1 <= len(frame.bases) <= 2 and 1 <= frame.depth <= MAX_CHAIN_DEPTH, "a frame with wrong bases")
    require(frame.encoding != RAW or frame.length == frame.raw, "a raw frame of two lengths")


def pack_frame_rows(directory, pack_number):
    for frame in directory.frames:
        block = directory.blocks[frame.block]
        yield pack_number, directory.role, block.offset, block.length, directory.keys[block.key], frame


class Segment:
    """A piece of the index: sealed pages of rows, and a head that says where they are."""

    def __init__(self, reader, name):
        self.id, self.store, self.ring = bytes.fromhex(name), reader.store, reader.ring
        self.name = f"index/{name}"
        raw, self.end, _ = read_tail(self.store, self.name, "Head")
        self.head = decode("Head", self.ring.open_envelope(raw, ["Head"])[1])
        self.pages = self.head.pack_pages + self.head.frame_pages + self.head.entry_pages
        at = 32
        for page in self.pages:
            require(page.offset == at and 32 < page.length <= MAX_PAGE_BYTES + 32, "pages that do not follow one another")
            at += page.length
        require(at == self.end, "pages that do not end at the head")

    def learn(self, blobs):
        """Tells where blobs lie. All or nothing: half a segment would look like a whole one."""
        with blobs.places:
            packs = [row for page in self._rows("PackRow", self.head.pack_pages, 0) for row in page]
            for pack in packs:
                if self.head.condemned_seen >= blobs.condemned.get(pack.id, 1 << 64):
                    del blobs.condemned[pack.id]  # the segment has brought it back
            numbers = []
            for page in self._rows("FrameRow", self.head.frame_pages, len(self.head.pack_pages)):
                numbers.extend(blobs.add_frames(self._frame_rows(page, packs, blobs)))
            before, entries = b"", 0
            first_page = len(self.head.pack_pages) + len(self.head.frame_pages)
            for page, ref in zip(self._rows("Entry", self.head.entry_pages, first_page), self.head.entry_pages):
                require(page and page[0].id == ref.first, "a page that does not begin as the head says")
                for entry in page:
                    require(before <= entry.id and entry.frame < len(numbers), "entries out of order or without a frame")
                    before = entry.id
                entries += len(page)
                blobs.add_blobs((e.id, e.kind, numbers[e.frame], e.offset, e.length) for e in page)
            require(entries == self.head.entries, "another number of entries than the head says")

    def _frame_rows(self, page, packs, blobs):
        for row in page:
            require(row.pack < len(packs) and row.key < len(self.head.keys), "a frame without a pack or key")
            check_frame(row)
            pack = packs[row.pack]
            require(row.block_offset + row.block_length <= pack.size < 1 << 63, "a block outside its pack")
            number = blobs._pack_number(pack.id)
            yield number, pack.role, row.block_offset, row.block_length, self.head.keys[row.key], row

    def _rows(self, kind, pages, number):
        """The rows of some pages, page by page; `number` is that of the first."""
        lead = self.store.read_range(self.name, 0, 32)
        for place, page in enumerate(pages):
            sealed = self.store.read_range(self.name, page.offset, page.length)
            more = lead + struct.pack("<I", number + place)
            rows = shape(f"[{kind}]", decode_cbor(self.ring.open_block("Page", self.head.page_key, sealed, more)))
            require(len(rows) == page.rows, "a page with another number of rows than the head says")
            yield rows


# --- Trees and content (section 10) -----------------------------------------------------------------------------------

HOLE = bytes(32)


class Trees:
    """Directories and files of a snapshot."""

    def __init__(self, blobs):
        self.blobs, self.report = blobs, blobs.report

    def nodes(self, tree, path):
        """The nodes of a directory, in order. A piece that cannot be read is told, and the others are given."""
        last = None
        for node in self._nodes(tree, path, None, None):
            require(last is None or last < node.name, "names out of order")
            last = node.name
            yield node

    def _nodes(self, piece_id, path, level, first):
        try:
            piece = self._piece(piece_id, level, first)
        except Damage as error:
            self.report.damage(b"names in /" + b"/".join(path), error)
            return
        yield from piece.nodes
        for child in piece.children:
            yield from self._nodes(child.piece, path, piece.level - 1, child.first)

    def _piece(self, piece_id, level, first):
        raw = self.blobs.get(piece_id, TREE)
        require(len(raw) <= MAX_PIECE_BYTES, "a piece of a directory that is too long")
        piece = decode("TreePiece", raw)
        require(piece.level == level if level is not None else piece.level <= MAX_LEVEL, "a piece of the wrong level")
        require(bool(piece.children) == (piece.level > 0), "a piece without children, or a leaf with some")
        require(not (piece.nodes and piece.children), "a piece with nodes and children")
        require(max(len(piece.nodes), len(piece.children)) <= MAX_PIECE_ITEMS, "a piece with too many items")
        names = [item.name for item in piece.nodes] or [item.first for item in piece.children]
        require(all(a < b for a, b in zip(names, names[1:])), "names out of order")
        require(first is None or names[:1] == [first], "a piece that does not begin as the one above says")
        for node in piece.nodes:
            check_node(node)
        return piece

    def find(self, root, path):
        """The node at a path, or none for the root."""
        node, tree = None, root
        for depth, name in enumerate(path):
            if node is not None and node.kind != DIRECTORY:
                raise Failure(FAILED, f"{shown(b'/'.join(path[:depth]))} is no directory in this snapshot")
            node = next((node for node in self.nodes(tree, path[:depth]) if node.name == name), None)
            if node is None:
                raise Failure(FAILED, f"there is no {shown(b'/' + b'/'.join(path[: depth + 1]))} in this snapshot")
            tree = node.tree
        return node

    def walk(self, tree, path):
        """Every (path, node) beneath a directory, a directory before what is in it."""
        stack = [(path, self.nodes(tree, path))]
        while stack:
            above, nodes = stack[-1]
            try:
                node = next(nodes, None)
            except Damage as error:
                self.report.damage(b"names in /" + b"/".join(above), error)
                node = None
            if node is None:
                stack.pop()
                continue
            here = above + [node.name]
            yield here, node
            if node.kind == DIRECTORY:
                stack.append((here, self.nodes(node.tree, here)))

    def content(self, node):
        """The content of a file in pieces: bytes, or a number for so many zero bytes."""
        size = 0
        for piece in self._pieces(node):
            size += piece if isinstance(piece, int) else len(piece)
            require(size <= node.size, "more content than its size says")
            yield piece
        require(size == node.size, "less content than its size says")

    def _pieces(self, node):
        if node.inline:
            yield node.inline
        elif node.chunks:
            yield from self._chunks(node.chunks, node.lengths or [node.size])
        elif node.list:
            yield from self._listed(node.list, None, None)

    def _chunks(self, ids, lengths):
        for chunk, length in zip(ids, lengths):
            if chunk == HOLE:
                yield length
                continue
            raw = self.blobs.get(chunk, DATA)
            require(len(raw) == length, "a chunk of another length")
            yield raw

    def _listed(self, piece_id, level, sum_of_lengths):
        raw = self.blobs.get(piece_id, LIST)
        require(len(raw) <= MAX_PIECE_BYTES, "a piece of a list that is too long")
        piece = decode("ListPiece", raw)
        require(piece.level == level if level is not None else piece.level <= MAX_LEVEL, "a piece of the wrong level")
        require(1 <= len(piece.ids) == len(piece.lengths) <= MAX_PIECE_ITEMS, "a list of the wrong length")
        require(sum_of_lengths in (None, sum(piece.lengths)), "a list of other content than its length says")
        if piece.level == 0:
            yield from self._chunks(piece.ids, piece.lengths)
        for child, length in zip(piece.ids, piece.lengths) if piece.level else ():
            yield from self._listed(child, piece.level - 1, length)


def check_node(node):
    """A node as section 10 wants it, above all with a name that can only be one in its directory."""
    name = node.name
    require(1 <= len(name) <= MAX_NAME_BYTES and name not in (b".", b".."), "a name that is none")
    require(b"/" not in name and b"\0" not in name, "a name that would lead elsewhere")
    require(node.mode < 1 << 12 and node.size < 1 << 63, "a mode of more than 12 bits, or a size that no file has")
    require((node.tree is not None) == (node.kind == DIRECTORY), "a tree where none may be, or a directory without one")
    require(bool(node.target) == (node.kind == SYMLINK), "a link without a target, or a target without a link")
    require(b"\0" not in node.target, "a target with a zero byte")
    require((node.rdev is not None) <= (node.kind in (CHAR_DEVICE, BLOCK_DEVICE)), "a device number where none may be")
    places = bool(node.inline) + bool(node.chunks) + (node.list is not None)
    require(places <= 1 and (node.kind == FILE or places == node.size == 0), "content in two places, or of what has none")
    require(len(node.inline) <= INLINE_BYTES and len(node.chunks) <= NODE_CHUNKS, "more content than a node may hold")
    require(len(node.lengths) == len(node.chunks) or (len(node.chunks) == 1 and not node.lengths), "chunks without lengths")


# --- Restoring --------------------------------------------------------------------------------------------------------

NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
KIND_BITS = {FIFO: stat.S_IFIFO, SOCKET: stat.S_IFSOCK, CHAR_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}


class Restore:
    """Writes nodes beneath a target that was empty before.

    Every path is walked from the target's own descriptor, name by name, and no symbolic link is followed: whatever the
    names in a snapshot are, nothing is written elsewhere. Directories get their rights and times at the end.
    """

    def __init__(self, trees, target):
        self.trees, self.report = trees, trees.report
        self.root = self._empty_target(target)
        self.parent_path, self.parent_fd = None, None
        self.directories = []
        self.linked = {}  # (device, inode) -> path and node of the first name
        self.owner = os.geteuid() == 0
        self.counts = {"files": 0, "directories": 0, "others": 0, "bytes": 0}

    @staticmethod
    def _empty_target(target):
        os.makedirs(target, mode=0o700, exist_ok=True)
        if os.listdir(target):
            raise Failure(REFUSED, f"{shown(target)} is not empty: name a new or an empty folder")
        return os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, path, node):
        """Brings one node back. What fails is told, and the rest goes on."""
        try:
            if node.kind == DIRECTORY:
                os.mkdir(path[-1], 0o700, dir_fd=self._parent(path))
                self.directories.append((path, node))
                self.counts["directories"] += 1
            elif not self._link(path, node):
                self._make(path, node)
        except Damage as error:
            self.report.damage(b"/" + b"/".join(path), f"not restored: {error}")
        except (OSError, OverflowError) as error:
            self.report.problem(b"/" + b"/".join(path), f"not restored: {getattr(error, 'strerror', error)}")

    def finish(self):
        """Rights and times of directories, the deepest first: from then on nothing beneath them changes."""
        for path, node in reversed(self.directories):
            try:
                fd = os.open(path[-1], os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW, dir_fd=self._parent(path))
                try:
                    self._metadata(path, node, fd)
                finally:
                    os.close(fd)
            except OSError as error:
                self.report.problem(b"/" + b"/".join(path), error.strerror)

    def _parent(self, path):
        """A descriptor of the directory that holds a path."""
        above = path[:-1]
        if self.parent_path != above:
            fd = os.dup(self.root)
            for name in above:
                try:
                    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW, dir_fd=fd)
                finally:
                    os.close(fd)
                fd = below
            if self.parent_fd is not None:
                os.close(self.parent_fd)
            self.parent_path, self.parent_fd = above, fd
        return self.parent_fd

    def _link(self, path, node):
        """A further name of what was restored before, if it is one."""
        if not node.links or node.links < 2:
            return False
        key = (node.device, node.inode)
        first_path, first = self.linked.get(key, (None, None))
        if first is None or not same_file(first, node):
            return False
        fd = os.dup(self._parent(first_path))
        try:
            os.link(first_path[-1], path[-1], src_dir_fd=fd, dst_dir_fd=self._parent(path), follow_symlinks=False)
        finally:
            os.close(fd)
        self._count(node, 0)
        return True

    def _make(self, path, node):
        name, parent = path[-1], self._parent(path)
        if node.kind == FILE:
            self._file(path, node, parent)
        elif node.kind == SYMLINK:
            os.symlink(node.target, name, dir_fd=parent)
            self._metadata(path, node, None)
        else:
            os.mknod(name, KIND_BITS[node.kind] | 0o600, node.rdev or 0, dir_fd=parent)
            self._metadata(path, node, None)
        if node.links and node.links > 1:
            self.linked[node.device, node.inode] = (path, node)
        self._count(node, node.size)

    def _count(self, node, size):
        self.counts["files" if node.kind == FILE else "others"] += 1
        self.counts["bytes"] += size

    def _file(self, path, node, parent):
        fd = os.open(path[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600, dir_fd=parent)
        try:
            self._content(fd, node)
            self._metadata(path, node, fd)
        except (Damage, OSError, OverflowError):
            os.unlink(path[-1], dir_fd=parent)  # half a file is worse than none
            raise
        finally:
            os.close(fd)

    def _content(self, fd, node):
        at = 0
        for piece in self.trees.content(node):
            if isinstance(piece, int):
                at += piece  # a hole stays one
                continue
            view = memoryview(piece)
            while view:
                written = os.pwrite(fd, view, at)
                at, view = at + written, view[written:]
        os.ftruncate(fd, node.size)

    def _metadata(self, path, node, fd):
        """Owner before attributes and rights, since a change of owner takes some of them away; times last."""
        parent, name = self._parent(path), path[-1]
        mode = node.mode
        if self.owner:
            self._try(path, "owner", lambda: self._chown(node, fd, name, parent))
        elif (node.uid, node.gid) != (os.geteuid(), os.getegid()):
            mode &= 0o1777  # set-id bits were meant for another owner
        where = fd if fd is not None else b"/proc/self/fd/%d/%s" % (parent, name)
        for xattr in node.xattrs:
            follow = {} if fd is not None else {"follow_symlinks": False}
            what = f"attribute {shown(xattr.name)}"
            self._try(path, what, lambda: os.setxattr(where, xattr.name, xattr.value, **follow))
        if node.kind != SYMLINK:
            self._try(path, "mode", lambda: os.chmod(fd, mode) if fd is not None else os.chmod(name, mode, dir_fd=parent))
        times = (node.mtime_ns, node.mtime_ns)
        if fd is not None:
            self._try(path, "time", lambda: os.utime(fd, ns=times))
        else:
            self._try(path, "time", lambda: os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False))

    @staticmethod
    def _chown(node, fd, name, parent):
        if fd is not None:
            os.chown(fd, node.uid, node.gid)
        else:
            os.chown(name, node.uid, node.gid, dir_fd=parent, follow_symlinks=False)

    def _try(self, path, what, action):
        try:
            action()
        except (OSError, OverflowError, ValueError) as error:
            self.report.problem(b"/" + b"/".join(path), f"{what} not restored: {getattr(error, 'strerror', error)}")


def same_file(one, other):
    """Whether two names of one inode still were one file when each was read."""
    fields = ("kind", "size", "inline", "chunks", "list", "target", "mtime_ns")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def restore(trees, root, path, target):
    """Brings back what is at a path of a snapshot, at that path beneath the target."""
    restoring = Restore(trees, target)
    node, above = None, root
    for depth, name in enumerate(path):
        node = trees.find(above, [name])
        above = node.tree
        restoring.add(path[: depth + 1], node)
    if node is None or node.kind == DIRECTORY:
        for here, below in trees.walk(above, path):
            restoring.add(here, below)
    restoring.finish()
    return restoring.counts


# --- Verifying: every object, whether something needs it or not -------------------------------------------------------


class Verify:
    """Reads all objects of all kinds, opens and decodes them, and computes the name of each blob."""

    OBJECTS = [  # area, form of the name, what may lie there, largest size, the field that is its name
        ("snapshots", ID16, ["Snapshot", "Tombstone"], 16 << 20),
        ("sessions", ID16, ["Session"], 64 << 10),
        ("sessions", ID16 + r"\.seen", ["Seen"], 1 << 20),
        ("sessions", ID16 + r"\.end", ["End"], 64 << 10),
        ("runs", ID16, ["Run"], 4 << 20),
        ("runs", ID16 + r"\.ledger", ["Ledger"], 32 << 20),
        ("runs", ID16 + r"\.history", ["History"], 16 << 20),
    ]

    def __init__(self, repository):
        self.repository, self.report, self.store = repository, repository.report, repository.store
        self.counts = {}

    def all(self):
        self.doubles()
        for area, form, kinds, limit in self.OBJECTS:
            for name in self.store.list(area, form):
                self.check(f"{area}/{name}", lambda: self.object(area, name, kinds, limit))
        for name in self.store.list("condemned", CONDEMNED):
            self.check(f"condemned/{name}", lambda: read_condemned(self.blobs, name))
        for name in self.store.list("index", ID32):
            self.check(f"index/{name}", lambda: self.segment(name))
        for pack in self.store.packs():
            self.check(pack_name(pack), lambda: self.pack(pack))

    def check(self, name, action):
        area = name.split("/")[0]
        self.counts[area] = self.counts.get(area, 0) + 1
        try:
            action()
        except Damage as error:
            self.report.damage(name, error)

    @property
    def blobs(self):
        if not hasattr(self, "_blobs"):
            self._blobs = Blobs(self.repository)
        return self._blobs

    def doubles(self):
        """Both copies of what lies there twice. What opens has been opened; two that differ cannot both be right."""
        names = ["config"]
        for area in ("keys", "epochs"):
            names += [f"{area}/{name}" for name in self.store.list_double(area)]
        for name in names:
            self.check(name, lambda: self.double(name))

    def double(self, name):
        copies = list(self.store.copies(name))
        for place, _, error in copies:
            if error:
                self.report.damage(place, error)
        found = [raw for _, raw, error in copies if raw]
        if len(found) > 1:
            self.report.damage(f"{name}.copy", f"it and {name} differ: one of them is damaged")
        if name.startswith("keys/"):
            self.slot(name, found[0])

    def slot(self, name, raw):
        """A slot of this root: its grant's key must open under the root key, whoever has the slot's secret."""
        slot = decode_slot(raw)
        require(slot.id.hex() == name[5:], "it is another slot")
        ring = self.repository.ring
        if raw[8:24] == root_id(ring.root) and slot.psk_under_root:
            key = derive("keepstone v1 grant psk", ring.root, 64)
            bound = [b"keepstone v1 slot grant key", ring.repository, slot.public]
            siv_open(key, bound, slot.psk_under_root, "the slot's grant key")

    def object(self, area, name, kinds, limit):
        opened = self.repository.decode_object(self.store.read(f"{area}/{name}", limit), *kinds)
        own = next(getattr(opened, label) for label in ("id", "session", "run") if hasattr(opened, label))
        require(own.hex() == name[:32], "it has another name inside")

    def hashed(self, name):
        hasher = blake3()
        with self.store.open(name) as file:
            while piece := file.read(1 << 20):
                hasher.update(piece)
        require(hasher.hexdigest() == name.split("/")[-1], "its bytes do not hash to its name")

    def segment(self, name):
        self.hashed(f"index/{name}")
        Segment(self.blobs, name)  # its pages were read when the index was

    def pack(self, pack):
        self.hashed(pack_name(pack))
        directory = read_directory(self.blobs, pack)
        number = self.blobs._pack_number(pack)
        for blob in directory.blobs:
            frame = directory.frames[blob.frame]
            block = directory.blocks[frame.block]
            key = directory.keys[block.key]
            place = (number, directory.role, block.offset, block.length, key, frame.offset, frame.length, frame.raw)
            place += (frame.encoding, b"".join(frame.bases), frame.depth, blob.offset, blob.length)
            self.blobs.frames_of_this_chain = 0
            self.blobs._take(blob.id, blob.kind, place, MAX_CHAIN_DEPTH + 1)
        self.counts["blobs"] = self.counts.get("blobs", 0) + len(directory.blobs)


# --- The front door ---------------------------------------------------------------------------------------------------


def main():
    options = arguments()
    report = Report()
    try:
        repository = Repository(options.repo, secret_of(options), report)
        COMMANDS[options.command](repository, options)
    except (Failure, Damage) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "code", DAMAGED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has seen enough
        return FAILED
    except OSError as error:
        print(f"error: {shown(error.filename or '')}: {error.strerror}", file=sys.stderr)
        return FAILED
    if report.code == DAMAGED:
        print("damage was found: see above. What could be read has been.", file=sys.stderr)
    return report.code


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="snapshots|ls|restore|verify")
    for name in COMMANDS:
        command = commands.add_parser(name)
        command.add_argument("--repo", "-r", required=True, metavar="DIR", help="the folder that holds the repository")
        secret = command.add_mutually_exclusive_group()
        secret.add_argument("--password", metavar="P", help="the passphrase; others may see it in the list of processes")
        secret.add_argument("--password-file", metavar="FILE", help="a file whose first line is the passphrase")
        secret.add_argument("--key-file", metavar="FILE", help="a key file, or the output of a key command")
        command.add_argument("--from-packs", action="store_true", help="do without the index: read all directories of packs")
        if name in ("ls", "restore"):
            command.add_argument("snapshot", metavar="SNAPSHOT[:PATH]")
        if name == "restore":
            command.add_argument("target", metavar="TARGET", help="a folder that is new or empty")
    return parser.parse_args()


def secret_of(options):
    if options.key_file:
        with open(options.key_file, "rb") as file:
            return Secret(key_file=file.read(65536 + 3).rstrip(b"\r\n"))
    if options.password_file:
        with open(options.password_file, "rb") as file:
            return Secret(passphrase=file.read(1 << 20).split(b"\n")[0].rstrip(b"\r"))
    password = options.password if options.password is not None else os.environ.get("KEEPSTONE_PASSWORD")
    return Secret(passphrase=os.fsencode(getpass.getpass("Passphrase: ") if password is None else password))


def chosen(repository, options):
    """The snapshot and the path in it that SNAPSHOT[:PATH] means."""
    wanted, _, path = options.snapshot.partition(":")
    names = [name for name in os.fsencode(path).split(b"/") if name]
    return repository.snapshot(wanted), names, Trees(Blobs(repository, options.from_packs))


def list_snapshots(repository, options):
    for snapshot in repository.snapshots():
        paths = " ".join(shown(path) for path in snapshot.paths)
        tags = f"  [{', '.join(shown(tag) for tag in snapshot.tags)}]" if snapshot.tags else ""
        partial = f"  partial: {snapshot.problem_count} problems" if snapshot.partial else ""
        size = f"{snapshot.totals.files} files, {snapshot.totals.bytes} bytes"
        print(f"{snapshot.id.hex()}  {when(snapshot.time_ns)}  {shown(snapshot.host)}  {paths}  {size}{tags}{partial}")


def list_files(repository, options):
    snapshot, path, trees = chosen(repository, options)
    node = trees.find(snapshot.root, path)
    if node is not None and node.kind != DIRECTORY:
        print(line_of(path, node))
        return
    for here, below in trees.walk(node.tree if node else snapshot.root, path):
        print(line_of(here, below))


def line_of(path, node):
    kind = "-dlpscb"[node.kind]
    target = f" -> {shown(node.target)}" if node.kind == SYMLINK else ""
    rights = stat.filemode(node.mode)[1:]
    return f"{kind}{rights} {node.uid:>6} {node.gid:>6} {node.size:>12} {when(node.mtime_ns)} /{shown(b'/'.join(path))}{target}"


def when(ns):
    try:
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=ns // 1_000_000_000)
        return moment.strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:
        return f"{ns} ns"


def restore_files(repository, options):
    snapshot, path, trees = chosen(repository, options)
    counts = restore(trees, snapshot.root, path, options.target)
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"restored {snapshot.id.hex()[:8]} to {shown(options.target)}: {told}")


def verify_all(repository, options):
    verify = Verify(repository)
    verify.all()
    print("read: " + ", ".join(f"{count} {what}" for what, count in verify.counts.items()))


COMMANDS = {"snapshots": list_snapshots, "ls": list_files, "restore": restore_files, "verify": verify_all}


if __name__ == "__main__":
    sys.exit(main())
