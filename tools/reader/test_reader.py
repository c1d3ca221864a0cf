#!/usr/bin/env python3
"""Writes a repository that Keepstone itself would not write today, and tests reader.py on it.

Docs/FORMAT.md allows more than this version of Keepstone uses: session keys wrapped to recipients, several epochs,
lists of many levels, bases that look like dictionaries. `Writer` makes a repository with all of these, from the
document like the reader. The tests read it, and change it until it must be refused.

    test_reader.py               run the tests
    test_reader.py --write DIR   only write the repository: the passphrase is `passphrase`, what its files hold is
                                 printed as `SNAPSHOT  BLAKE3  NAME`, all in
                                 hexadecimal digits
"""

import contextlib
import io
import os
import struct
import subprocess
import sys
import tempfile
import unittest

import reader
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESSIV, ChaCha20Poly1305

PASSPHRASE = b"passphrase"
READER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reader.py")
DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/FORMAT.md")


def encode_cbor(value):
    """Deterministic CBOR of what structures are made of."""
    if value is None:
        return b"\xf6"
    if value is True:
        return b"\xf5"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, (list, tuple)):
        return head(4, len(value)) + b"".join(map(encode_cbor, value))
    fields = sorted((encode_cbor(key), encode_cbor(item)) for key, item in value.items() if absent(item) is False)
    return head(5, len(fields)) + b"".join(key + item for key, item in fields)


def absent(item):
    return item is None or item == b"" or item == []


def head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    for low, size in enumerate((1, 2, 4, 8)):
        if number < 1 << (8 * size):
            return bytes([major << 5 | 24 + low]) + number.to_bytes(size, "big")
    raise ValueError(number)


def seal(key, associated, text):
    return AESSIV(key).encrypt(text, associated)


def noise(seed, length):
    return blake3(seed.encode()).digest(length=length)


def hpke_seal(public, text, info, associated, psk=b"", psk_id=b""):
    """The sender of HPKE; what it derives is what `hpke_open` derives."""
    ephemeral = os.urandom(32)
    key = reader.X25519PrivateKey.from_private_bytes(ephemeral)
    exchanged = key.exchange(reader.X25519PublicKey.from_public_bytes(public))
    enc = reader.public_of(ephemeral)
    secret = reader.hpke_extract(reader.KEM_SUITE, b"", b"eae_prk", exchanged)
    shared = reader.hpke_expand(reader.KEM_SUITE, secret, b"shared_secret", enc + public, 32)
    suite = reader.HPKE_SUITE
    context = bytes([1 if psk else 0]) + reader.hpke_extract(suite, b"", b"psk_id_hash", psk_id)
    context += reader.hpke_extract(suite, b"", b"info_hash", info)
    secret = reader.hpke_extract(suite, shared, b"secret", psk)
    nonce = reader.hpke_expand(suite, secret, b"base_nonce", context, 12)
    cipher = ChaCha20Poly1305(reader.hpke_expand(suite, secret, b"key", context, 32))
    return enc, cipher.encrypt(nonce, text, associated)


class Key:
    """A class key, with the wrap that an object has to carry if it is one of a session."""

    def __init__(self, class_, seed, recipient=None, repository=None):
        self.class_, self.raw = class_, noise(seed, 32)
        self.id = reader.derive("keepstone v1 key id", self.raw, 16)
        self.wrap = None
        if recipient:
            private = reader.derive("keepstone v1 session key recipient", recipient.raw)
            text = bytes([class_]) + self.raw
            enc, sealed = hpke_seal(reader.public_of(private), text, b"keepstone v1 session key", repository)
            self.wrap = {1: recipient.id, 2: enc + sealed}

    def of_kind(self, kind):
        return reader.derive(f"keepstone v1 {reader.CLASS_NAMES[self.class_]} object {reader.KINDS[kind]}", self.raw, 64)


class Writer:
    """Puts a repository into a folder."""

    def __init__(self, folder, features=()):
        self.folder = folder
        self.root, self.repository = noise("root", 32), noise("repository", 32)
        self.root_id = reader.root_id(self.root)
        self.naming = None
        self.places = {}  # blob id -> (pack, block offset, block length, key id, frame row, blob row)
        self.content = {}
        self.config(features)
        self.slot()
        self.epochs = [self.epoch(number) for number in (1, 2)]

    def put(self, name, raw, twice=False):
        for place in (name, name + ".copy") if twice else (name,):
            path = os.path.join(self.folder, place)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(raw)

    def header(self, kind, key_id, flags=0):
        return reader.HEADER.pack(b"KEEP", 1, reader.KINDS[kind], flags, key_id)

    def config(self, features, revision=1):
        told = {1: self.repository, 2: 7, 3: {1: 1, 2: 65536, 3: 262144, 4: 1048576}, 4: list(features)}
        told.update({5: list(features), 6: {1: True, 2: True}, 7: revision})
        header, raw = self.header("Config", self.root_id), encode_cbor(told)
        proof = blake3(header + raw, key=reader.derive("keepstone v1 config proof", self.root)).digest()
        self.put("config", header + proof + struct.pack("<I", len(raw)) + raw, twice=True)

    def slot(self):
        private, grant_key, slot_id = noise("private", 32), noise("grant key", 32), noise("slot", 16)
        guard = {1: 1, 2: noise("salt", 16), 3: 8, 4: 1, 5: 1}
        secret = reader.Secret(passphrase=PASSPHRASE)
        made = reader.SimpleNamespace(salt=guard[2], memory_kib=8, passes=1, lanes=1)
        guard[6] = seal(secret.guard_key(made), [b"keepstone v1 slot private"], private + grant_key)
        public = reader.public_of(private)
        psk = reader.derive("keepstone v1 grant psk", self.root, 64)
        under_root = seal(psk, [b"keepstone v1 slot grant key", self.repository, public], grant_key)
        told = {1: slot_id, 2: 7, 3: "by the document", 4: public, 5: guard, 6: under_root, 8: 0}
        header = self.header("Slot", self.root_id)
        info = b"keepstone v1 grant" + self.repository
        bound = header + encode_cbor(told)
        enc, sealed = hpke_seal(public, self.root, info, bound, grant_key, b"keepstone v1 grant psk")
        told[7] = {1: enc, 2: sealed}
        raw = encode_cbor(told)
        self.put(f"keys/{slot_id.hex()}", header + struct.pack("<I", len(raw)) + raw, twice=True)

    def epoch(self, number):
        """Generations share the dedup key: names of blobs do not change with the others."""
        epoch_id, entries, keys = noise(f"epoch {number}", 16), [], {}
        for class_, name in reader.CLASS_NAMES.items():
            key = Key(class_, "dedup" if class_ == reader.DEDUP else f"{name} {number}")
            own = 1 if class_ == reader.DEDUP else number
            bound = b"keepstone v1 class" + epoch_id + struct.pack("<BI", class_, own) + key.id
            sealed = seal(reader.derive(f"keepstone v1 wrap {name}", self.root, 64), [bound], key.raw)
            entries.append({1: class_, 2: own, 3: key.id, 4: sealed})
            keys[class_] = key
        self.naming = reader.derive("keepstone v1 blob names", keys[reader.DEDUP].raw)
        told = {1: epoch_id, 2: number, 3: 7, 4: entries}
        key = reader.derive("keepstone v1 epoch", self.root, 64)
        self.put(f"epochs/{epoch_id.hex()}", self.envelope("Epoch", told, None, key, self.root_id), twice=True)
        return keys

    def session(self):
        """Keys of a client that can write but not read: those of a session, wrapped to the newest epoch's recipients."""
        recipients, keys = self.epochs[-1], dict(self.epochs[-1])
        for class_ in (reader.METADATA_CLASS, reader.DATA_CLASS):
            keys[class_] = Key(class_, f"session {class_}", recipients[class_], self.repository)
        return keys

    def envelope(self, kind, told, key, raw_key=None, key_id=None, padding=0):
        header = self.header(kind, key_id or key.id, 1 if key and key.wrap else 0)
        wrap = encode_cbor(key.wrap) if key and key.wrap else b""
        content, nonce = encode_cbor(told), os.urandom(16)
        text = struct.pack("<I", len(content)) + content + bytes(padding)
        sealed = seal(raw_key or key.of_kind(kind), [header + self.repository + wrap, nonce], text)
        return header + nonce + (struct.pack("<H", len(wrap)) + wrap if wrap else b"") + sealed

    def name(self, blob):
        return blake3(blob, key=self.naming).digest()

    def pack(self, keys, role, frames):
        """Frames are (blobs of (kind, bytes), bases). Each becomes a block of its own. Returns the ids of all blobs."""
        key = keys[reader.DATA_CLASS if role == reader.DATA_ROLE else reader.METADATA_CLASS]
        kind = "Data" if role == reader.DATA_ROLE else "Metadata"
        pack, rows, ids = os.urandom(32), {"blocks": [], "frames": [], "blobs": []}, []
        for number, (blobs, bases) in enumerate(frames):
            raw = b"".join(blob for _, blob in blobs)
            stored, encoding = self.compress(raw, bases)
            nonce = os.urandom(16)
            bound = reader.block_header(kind, key.id, self.repository)
            block = nonce + seal(key.of_kind(kind), [bound, nonce], stored)
            rows["blocks"].append([len(pack), len(block), 0])
            depth = [1 + max(self.places[self.name(base)][4][5] if len(self.places[self.name(base)][4]) > 5 else 0 for base in bases)] if bases else []
            chain = [b"".join(map(self.name, bases)), *depth, len(stored), len(raw)] if bases else []
            frame = [0, len(stored), len(raw), encoding, *chain]
            rows["frames"].append([number, *frame])
            at = 0
            for of, blob in blobs:
                ids.append(self.name(blob))
                rows["blobs"].append([ids[-1], of, number, at, len(blob)])
                self.places[ids[-1]] = [None, *rows["blocks"][-1][:2], key.id, frame, [of, at, len(blob)], role]
                at += len(blob)
            pack += block
        told = {1: noise("session", 16), 2: role, 3: [key.id], 4: rows["blocks"], 5: rows["frames"], 6: rows["blobs"]}
        told.update({7: [key.wrap] if key.wrap else None, 8: 7})
        directory = self.envelope("Directory", told, keys[reader.INDEX], padding=100)
        pack += directory + self.trailer("Directory", directory)
        pack_id = blake3(pack).digest()
        self.put(reader.pack_name(pack_id), pack)
        for blob in ids:
            self.places[blob][0] = (pack_id, len(pack))
        return ids

    def trailer(self, kind, envelope):
        return reader.TRAILER.pack(b"KEEP", 1, reader.KINDS[kind], 0, len(envelope), 0)

    def compress(self, raw, bases):
        if not bases:
            stored = zstandard.ZstdCompressor().compress(raw)
            return (stored, reader.ZSTD) if len(stored) < len(raw) else (raw, reader.RAW)
        prefix = zstandard.ZstdCompressionDict(b"".join(bases), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        return zstandard.ZstdCompressor(dict_data=prefix).compress(raw), reader.ZSTD_ON_BASES

    def segment(self, keys):
        """One segment of all places, with two entries a page."""
        key, lead = keys[reader.INDEX], os.urandom(32)
        packs = sorted({place[0] for place in self.places.values()})
        roles = {place[0]: place[6] for place in self.places.values()}
        key_ids = sorted({place[3] for place in self.places.values()})
        frame_rows, entries = [], []
        for blob, place in sorted(self.places.items()):
            row = [packs.index(place[0]), place[1], place[2], key_ids.index(place[3]), *place[4]]
            if row not in frame_rows:
                frame_rows.append(row)
            entries.append([blob, frame_rows.index(row), place[5][1], place[5][2], place[5][0]])
        pack_rows = [[pack, size, roles[pack, size], 7] for pack, size in packs]
        pages, refs, raw = [pack_rows, frame_rows, *(entries[at : at + 2] for at in range(0, len(entries), 2))], [], lead
        for number, page in enumerate(pages):
            nonce = os.urandom(16)
            bound = reader.block_header("Page", key.id, self.repository) + lead + struct.pack("<I", number)
            sealed = nonce + seal(key.of_kind("Page"), [bound, nonce], encode_cbor(page))
            refs.append([len(raw), len(sealed), len(page), page[0][0] if number > 1 else None])
            raw += sealed
        told = {1: noise("session", 16), 2: 0, 4: 0, 5: key_ids, 6: refs[:1], 7: refs[1:2], 8: refs[2:]}
        told.update({9: len(entries), 10: 7, 11: key.id})
        envelope = self.envelope("Head", told, key)
        raw += envelope + self.trailer("Head", envelope)
        self.put(f"index/{blake3(raw).hexdigest()}", raw)

    def node(self, name, kind=reader.FILE, **more):
        fields = {1: name, 2: kind, 3: 0o755 if kind == reader.DIRECTORY else 0o640, 4: os.getuid(), 5: os.getgid()}
        fields.update({6: 1_700_000_000_123_456_789, 7: 1, 8: 0, 9: 1, 10: 1})
        fields.update({int(key[1:]): value for key, value in more.items()})
        return fields

    def snapshot(self, seed, root, key, time_ns, honest=True):
        snapshot_id = noise(seed, 16)
        totals = {number: 0 for number in range(1, 16)}
        told = {1: snapshot_id, 2: time_ns, 3: time_ns, 4: time_ns, 5: "elsewhere", 6: "ann", 7: root, 8: [b"/home"]}
        told.update({13: 0, 14: totals, 15: "test_reader.py", 18: ["files"], 20: "", 21: time_ns, 99: ["of the future"]})
        told[28] = True if key.wrap and honest else None
        self.put(f"snapshots/{snapshot_id.hex()}", self.envelope("Snapshot", told, key, padding=7))
        return snapshot_id.hex()

    def tree(self, nodes, level=0):
        nodes = sorted(nodes, key=lambda node: node[1])
        if level == 0:
            return (reader.TREE, encode_cbor({1: 0, 2: nodes}))
        children = [{1: first, 2: self.name(piece)} for first, piece in nodes]
        return (reader.TREE, encode_cbor({1: level, 3: children}))

    def listed(self, items, level=0):
        ids, lengths = b"".join(item for item, _ in items), [length for _, length in items]
        return (reader.LIST, encode_cbor({1: level, 2: ids, 3: lengths}))

    def everything(self):
        """An old snapshot of the first epoch, and a newer one of a client that only holds recipients."""
        old, session = self.epochs[0], self.session()
        words = [noise(f"word {number}", 900) for number in range(6)]
        dictionary = b"\x37\xa4\x30\xec" + noise("like a dictionary", 60_000)
        other = noise("other", 50_000)
        both = dictionary[:30_000] + b"changed" + other[:30_000] + dictionary[30_000:]
        again = both[:20_000] + b"changed once more" + both[20_010:]
        chunks = [((reader.DATA, word),) for word in words] + [((reader.DATA, dictionary),), ((reader.DATA, other),)]
        self.pack(old, reader.DATA_ROLE, [(tuple(c[0] for c in chunks[:6]), [])] + [(c, []) for c in chunks[6:]])
        self.pack(old, reader.DATA_ROLE, [(((reader.DATA, both),), [dictionary, other])])
        self.pack(session, reader.DATA_ROLE, [(((reader.DATA, again),), [both])])
        ids = [(self.name(word), len(word)) for word in words]
        hole = (bytes(32), 5_000)
        leaves = [self.listed([ids[0], hole, ids[1]]), self.listed(ids[2:4]), self.listed([hole, *ids[4:]])]
        sums = [6_800, 1_800, 6_800]
        middle = [self.listed([(self.name(leaf[1]), s) for leaf, s in zip(leaves[:2], sums)], 1)]
        middle.append(self.listed([(self.name(leaves[2][1]), 6_800)], 1))
        top = self.listed([(self.name(middle[0][1]), 8_600), (self.name(middle[1][1]), 6_800)], 2)
        long = words[0] + bytes(5_000) + words[1] + words[2] + words[3] + bytes(5_000) + words[4] + words[5]
        files = [
            self.node(b"both", _8=len(both), _17=self.name(both)),
            self.node(b"empty"),
            self.node(b"inline", _8=5, _16=b"hello"),
            self.node(b"long", _8=len(long), _19=self.name(top[1])),
            self.node(b"\xff\n", _8=1_800, _17=ids[0][0] + ids[3][0], _18=[900, 900]),
            self.node(b"link", reader.SYMLINK, _12=b"inline"),
            self.node(b"pipe", reader.FIFO),
        ]
        files.sort(key=lambda node: node[1])
        pieces = [self.tree(files[:3]), self.tree(files[3:])]
        home = self.tree([(files[0][1], pieces[0][1]), (files[3][1], pieces[1][1])], 1)
        root = self.tree([self.node(b"home", reader.DIRECTORY, _20=self.name(home[1]))])
        blobs = (*leaves, *middle, top, *pieces, home, root)
        self.pack(old, reader.METADATA_ROLE, [(blobs[:4], []), (blobs[4:], [])])
        self.old = self.snapshot("old", self.name(root[1]), old[reader.METADATA_CLASS], 10**18)
        home = self.tree([self.node(b"again", _8=len(again), _17=self.name(again))])
        root = self.tree([self.node(b"home", reader.DIRECTORY, _20=self.name(home[1]))])
        self.pack(session, reader.METADATA_ROLE, [((home, root), [])])
        self.new = self.snapshot("new", self.name(root[1]), session[reader.METADATA_CLASS], 2 * 10**18)
        self.segment(old)
        self.leftovers(self.epochs[1][reader.INDEX])
        self.content = {
            self.old: {b"both": both, b"empty": b"", b"inline": b"hello", b"long": long, b"\xff\n": words[0] + words[3]},
            self.new: {b"again": again},
        }
        return self

    def leftovers(self, key):
        fenced, gone = noise("fenced", 16), noise("gone", 16)
        self.put(f"snapshots/{fenced.hex()}", self.envelope("Tombstone", {1: fenced, 2: gone, 3: 7}, key))
        told = {1: gone, 2: 1, 3: "elsewhere", 4: 1, 5: "", 6: 0, 7: 7, 8: "test_reader.py", 9: "backup"}
        self.put(f"sessions/{gone.hex()}", self.envelope("Session", told, key))
        self.put(f"sessions/{gone.hex()}.seen", self.envelope("Seen", {1: gone, 2: [1]}, key))
        self.put(f"sessions/{gone.hex()}.end", self.envelope("End", {1: gone, 2: 7}, key))
        self.put("condemned/0000000001", self.envelope("Condemned", {1: 1, 2: gone, 3: 7, 4: [noise("a pack", 32)]}, key))
        self.put("index/not-a-segment", b"passed over")
        self.put("damage/reserved", b"passed over")
        self.put("catalogue/reserved", b"passed over")


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.vault, self.target = os.path.join(folder.name, "vault"), os.path.join(folder.name, "target")

    def run_reader(self, *args, code=0):
        command = [sys.executable, READER, args[0], "--repo", self.vault, "--password", PASSPHRASE.decode(), *args[1:]]
        done = subprocess.run(command, capture_output=True)
        self.assertEqual(done.returncode, code, done.stderr.decode() + done.stdout.decode())
        return done.stdout.decode() + done.stderr.decode()

    def restored(self):
        home, found = os.path.join(os.fsencode(self.target), b"home"), {}
        for name in os.listdir(home):
            path = os.path.join(home, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    found[name] = file.read()
        return found


class Everything(Case):
    """What the format allows."""

    def test_a_snapshot_of_an_older_epoch_comes_back_with_its_lists_pieces_and_bases(self):
        writer = Writer(self.vault).everything()
        self.assertEqual(self.run_reader("restore", writer.old, self.target).count("damaged"), 0)
        self.assertEqual(self.restored(), writer.content[writer.old])
        self.assertEqual(os.stat(self.target + "/home/inline").st_mtime_ns, 1_700_000_000_123_456_789)
        self.assertEqual(os.readlink(self.target + "/home/link"), "inline")

    def test_a_snapshot_under_session_keys_comes_back_through_the_index_and_without_it(self):
        writer = Writer(self.vault).everything()
        for more in ([], ["--from-packs"]):
            self.run_reader("restore", *more, "latest", self.target)
            self.assertEqual(self.restored(), writer.content[writer.new])
            self.target += "2"

    def test_a_snapshot_under_a_session_key_that_says_it_is_none_is_damaged_and_so_is_a_ledger(self):
        writer = Writer(self.vault).everything()
        key = writer.session()[reader.METADATA_CLASS]
        liar = writer.snapshot("liar", noise("root", 32), key, 3 * 10**18, honest=False)
        run = noise("run", 16)
        writer.put(f"runs/{run.hex()}.ledger", writer.envelope("Ledger", {1: run, 2: 7}, key))
        told = self.run_reader("verify", code=reader.DAMAGED)
        self.assertIn(f"damaged: snapshots/{liar}", told)
        self.assertIn(f"damaged: runs/{run.hex()}.ledger", told)
        self.assertEqual(told.count("damaged: "), 2, told)

    def test_every_object_verifies_and_tombstones_and_other_names_are_passed_over(self):
        Writer(self.vault).everything()
        told = self.run_reader("verify")
        self.assertIn("3 snapshots", told)
        self.assertIn("3 sessions", told)
        self.assertEqual(len(self.run_reader("snapshots").splitlines()), 2)

    def test_a_flipped_byte_anywhere_in_any_object_is_reported(self):
        Writer(self.vault).everything()
        for name in self.objects():
            with open(f"{self.vault}/{name}", "rb") as file:
                whole = file.read()
            for at in (0, 9, len(whole) // 3, len(whole) // 2, len(whole) - 1):
                flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
                with open(f"{self.vault}/{name}", "wb") as file:
                    file.write(flipped)
                report = verify(self.vault)
                self.assertEqual(report.code, reader.DAMAGED)
                self.assertTrue(any(name in line for line in report.told), (name, at, report.told))
            with open(f"{self.vault}/{name}", "wb") as file:
                file.write(whole)
        self.assertEqual(verify(self.vault).told, set())

    def objects(self):
        for folder, _, names in list(os.walk(self.vault)):
            for name in names:
                if name not in ("not-a-segment", "reserved"):
                    yield os.path.relpath(os.path.join(folder, name), self.vault)


def verify(vault):
    """What `reader.py verify` would report."""
    report = reader.Report()
    with contextlib.redirect_stderr(io.StringIO()):
        reader.Verify(reader.Repository(vault, reader.Secret(passphrase=PASSPHRASE), report)).all()
    return report


class Refused(Case):
    """What the format forbids."""

    def test_an_unknown_required_feature_is_named(self):
        Writer(self.vault, features=("bases-from-the-moon",)).everything()
        self.assertIn("bases-from-the-moon", self.run_reader("snapshots", code=11))

    def test_a_config_whose_features_were_taken_out_does_not_prove(self):
        Writer(self.vault, features=("moon",))
        for name in ("config", "config.copy"):
            with open(f"{self.vault}/{name}", "r+b") as file:
                raw = file.read()
                file.seek(0)
                file.write(raw.replace(b"moon", b"v1-d"))
        self.assertIn("proof", self.run_reader("snapshots", code=4))

    def hostile(self, nodes, ordered=False):
        """Restores a snapshot whose root holds these nodes."""
        writer = Writer(self.vault)
        root = encode_cbor({1: 0, 2: nodes if ordered else sorted(nodes, key=lambda node: node[1])})
        writer.pack(writer.epochs[1], reader.METADATA_ROLE, [(((reader.TREE, root),), [])])
        writer.snapshot("hostile", writer.name(root), writer.epochs[1][reader.METADATA_CLASS], 7)
        writer.segment(writer.epochs[1])
        told = self.run_reader("restore", "latest", self.target, code=4)
        around = os.listdir(os.path.dirname(self.target))
        self.assertEqual(sorted(around), ["target", "vault"], told)
        return told

    def test_names_that_lead_out_of_the_target_are_refused(self):
        make = Writer(self.vault).node
        for number, name in enumerate((b"..", b".", b"../out", b"/out", b"a/b", b"a\0b", b"", b"x" * 4097)):
            self.assertIn("a name that", self.hostile([make(name, _8=3, _16=b"out")]), name)
            subprocess.run(["rm", "-r", self.vault, self.target], check=True)

    def test_a_directory_behind_a_symbolic_link_of_the_same_name_is_refused(self):
        make = Writer(self.vault).node
        link = make(b"a", reader.SYMLINK, _12=b"..")
        tree = encode_cbor({1: 0, 2: [make(b"out", _8=3, _16=b"out")]})
        writer = Writer(self.vault)
        directory = make(b"a", reader.DIRECTORY, _20=writer.name(tree))
        self.assertIn("names out of order", self.hostile([link, directory], ordered=True))

    def test_content_that_does_not_fit_its_size_is_not_restored(self):
        make = Writer(self.vault).node
        told = self.hostile([make(b"more", _8=2, _16=b"out"), make(b"less", _8=1 << 60, _17=bytes(32), _18=[5])])
        self.assertIn("/more: not restored", told)
        self.assertIn("/less: not restored", told)
        self.assertEqual(os.listdir(self.target), [])

    def test_cbor_that_is_not_deterministic_is_refused(self):
        for raw in ("1800", "190001", "9f00ff", "5f4100ff", "a201000100", "a202000100", "c100", "f90000", "f7", "6180"):
            with self.assertRaises(reader.Damage, msg=raw):
                reader.decode_cbor(bytes.fromhex(raw))
        for raw in ("9bffffffffffffffff", "5bffffffffffffffff", "bb7fffffffffffffff", "81" * 100 + "00", "00" * 2, ""):
            with self.assertRaises(reader.Damage, msg=raw):
                reader.decode_cbor(bytes.fromhex(raw))

    def test_a_frame_makes_no_more_than_it_announced(self):
        bomb = zstandard.ZstdCompressor().compress(bytes(10 << 20))
        with self.assertRaises(reader.Damage):
            reader.decode_frame(reader.ZSTD, bomb, 1000, [])
        silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10 << 20))
        with self.assertRaises(reader.Damage):
            reader.decode_frame(reader.ZSTD, silent, 1000, [])
        with self.assertRaises(reader.Damage):
            reader.decode_frame(reader.ZSTD, bomb, 10 << 30, [])


class Document(unittest.TestCase):
    """What the document says, against what the reader has."""

    def setUp(self):
        with open(DOCUMENT, encoding="utf-8") as file:
            self.text = file.read()
        self.vectors = dict(
            line.rsplit(" = ", 1) if "published" not in line else line.split(" = ", 1)
            for line in self.text.split("```vectors\n")[1].split("```")[0].splitlines()
        )

    def test_the_tables_of_structures_are_the_same(self):
        for name, fields in reader.STRUCTURE_FIELDS.items():
            table = self.text.split(f"\n#### `{name}`\n")[1].split("\n#")[0]
            rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| ") and line[2].isdigit()]
            told = [(int(key), label.strip(" `"), of.strip().replace("`", "")) for key, label, of in rows]
            ours = [(key, label.rstrip("_"), of + ("?" if optional else "")) for key, label, of, optional in fields]
            self.assertEqual(ours, told, name)

    def test_the_vectors_come_out(self):
        root, data = bytes([1]) * 32, Key.__new__(Key)
        data.class_, data.raw = reader.DATA_CLASS, bytes([2]) * 32
        expect = self.vectors
        self.assertEqual(reader.root_id(root).hex(), expect["root key 01…: id"])
        self.assertEqual(reader.derive("keepstone v1 key id", data.raw, 16).hex(), expect["data key 02…: id"])
        private = reader.derive("keepstone v1 session key recipient", data.raw)
        self.assertEqual(reader.public_of(private).hex(), expect["data key 02…: recipient's public key"])
        self.assertEqual(fingerprint(data.of_kind("Data")), expect["data key 02…: fingerprint of the seal key of kind 4"])
        epoch_key = reader.derive("keepstone v1 epoch", root, 64)
        self.assertEqual(fingerprint(epoch_key), expect["root key 01…: fingerprint of the epoch key"])
        naming = reader.derive("keepstone v1 blob names", bytes([5]) * 32)
        self.assertEqual(blake3(b"bytes", key=naming).hexdigest(), expect["dedup key 05…: id of the blob `bytes`"])
        guard = reader.SimpleNamespace(salt=bytes([7]) * 16, memory_kib=8, passes=1, lanes=1)
        stretched = reader.Secret(passphrase=b"passphrase").guard_key(guard)
        line = "passphrase `passphrase`, salt 07…, 8 KiB, 1 pass, 1 lane: fingerprint of G"
        self.assertEqual(fingerprint(stretched), expect[line])
        from_file = reader.Secret(key_file=b"sixteen bytes of secret").guard_key(None)
        self.assertEqual(fingerprint(from_file), expect["key file `sixteen bytes of secret`: fingerprint of G"])
        check = expect["key line of 05…: check"]
        key_line = b"# paper\n  KEEPSTONE-KEY-1 " + b"0505-" * 16 + check.encode() + b" \nmore"
        from_line = reader.Secret(key_file=key_line).guard_key(None)
        self.assertEqual(fingerprint(from_line), expect["key line of 05…: fingerprint of G"])

    def test_the_objects_of_the_vectors_open(self):
        root, repository = bytes([1]) * 32, bytes([4]) * 32
        raw = bytes.fromhex(self.vectors["config"])
        key = reader.derive("keepstone v1 config proof", root)
        self.assertEqual(blake3(raw[:24] + raw[60:], key=key).digest(), raw[24:56])
        config = reader.decode("Config", raw[60:])
        self.assertEqual((config.reader_features, config.writer_features), ([], ["write-only-clients"]))
        ring = reader.Keyring(root, repository)
        key_id = reader.derive("keepstone v1 key id", bytes([2]) * 32, 16)
        ring.keys[reader.METADATA_CLASS, key_id] = bytes([2]) * 32
        opened = ring.open_envelope(bytes.fromhex(self.vectors["envelope"]), ["Snapshot"])
        self.assertEqual(opened, ("Snapshot", b"content"))
        ring.keys[reader.DATA_CLASS, key_id] = ring.keys[reader.INDEX, key_id] = bytes([2]) * 32
        block = bytes.fromhex(self.vectors["block"])
        self.assertEqual(ring.open_block("Data", key_id, block), b"content")
        page = bytes.fromhex(self.vectors["page"])
        self.assertEqual(ring.open_block("Page", key_id, page, bytes([3]) * 32 + struct.pack("<I", 258)), b"\x80")
        node = reader.decode("Node", bytes.fromhex(self.vectors["node"]))
        self.assertEqual((node.name, node.inline, node.mode), (b"hello", b"world", 0o644))
        raw = bytes.fromhex(self.text.split("```text\nslot = ")[1].split("\n")[0])
        private = bytes([8]) * 32
        wrap = bytes.fromhex(self.text.split("```text\nwrap = ")[1].split("\n")[0])
        session = ring.unwrap(reader.DATA_CLASS, reader.decode("KeyWrap", wrap))
        self.assertEqual(ring.keys[reader.DATA_CLASS, session], bytes([9]) * 32)
        self.assertEqual(reader.accept_grant(raw, reader.decode_slot(raw), repository, private, b""), root)


def fingerprint(key):
    """SIV of no strings and an empty text: S2V gives CMAC(K1, zero block with a one at its end) (RFC 5297, 2.4)."""
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.cmac import CMAC

    zero, empty = CMAC(AES(key[:32])), CMAC(AES(key[:32]))
    zero.update(bytes(16))
    doubled = int.from_bytes(zero.finalize(), "big") << 1
    doubled = (doubled & ((1 << 128) - 1)) ^ (0x87 if doubled >> 128 else 0)
    empty.update((doubled ^ (1 << 127)).to_bytes(16, "big"))
    return empty.finalize().hex()


def write(folder):
    writer = Writer(folder).everything()
    for snapshot, files in writer.content.items():
        for name, content in sorted(files.items()):
            print(f"{snapshot}  {blake3(content).hexdigest()}  {name.hex()}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2])
    else:
        unittest.main()
