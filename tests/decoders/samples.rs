//! One valid encoding or more for every decoder: where mutation begins.

use super::entry::{BLOCKS_END, KIND, REPOSITORY, key};
use keepstone::base::*;
use keepstone::crypto::keys::RootKey;
use keepstone::format::cbor::{Bytes, Cbor, Unknown};
use keepstone::format::config::{ChunkerConfig, Config, StoreConfig};
use keepstone::format::container::trailer;
use keepstone::format::damage::DamageRecord;
use keepstone::format::envelope::{self, KeyWrap, ObjectKind};
use keepstone::format::keys::{ClassEntry, ClientEpoch, Credential, Epoch, Guard, GuardKind, Slot, StoredGrant};
use keepstone::format::ledger::{Finding, Ledger, PacksRead, SnapshotsFound};
use keepstone::format::pack::{Blob, BlobKind, Block, Chain, Directory, Encoding, Frame, Role};
use keepstone::format::parity::{Page, Shape};
use keepstone::format::run::{Figure, History, Outcome, Run, RunPhase, RunRef, RunTable};
use keepstone::format::segment::{Entry, FrameRow, Head, PackRow, PageRef};
use keepstone::format::session::{Condemned, End, Seen, Session, SessionKind};
use keepstone::format::snapshot::{
    Copied, ImportedDump, ImportedTable, Snapshot, StoredProblem, Stream, Tombstone, Totals,
};
use keepstone::format::tree::*;
use keepstone::format::vouch::Voucher;

/// A field that no version knows, with a value of some depth.
fn unknown() -> Unknown {
    let mut unknown = Unknown::none();
    unknown.keep(60, &[0x82, 0x01, 0xa1, 0x61, b'k', 0x43, 1, 2, 3]);
    unknown.keep(u64::MAX, &[0xf6]);
    unknown
}

fn none() -> Unknown {
    Unknown::none()
}

/// The bytes with which the decoder called `name` is tried.
pub fn of(name: &str) -> Vec<Vec<u8>> {
    match name {
        "config structure" => vec![config().to_cbor()],
        "config" => vec![keepstone::format::config::encode(&config(), &RootKey::from_bytes(Secret::new([1; 32])))],
        "slot structure" => slots().iter().map(Cbor::to_cbor).collect(),
        "slot" => slots().iter().map(|slot| slot.encode(KeyId([1; 16]))).collect(),
        "epoch" => vec![epoch().to_cbor()],
        "credential" => vec![credential().to_cbor()],
        "snapshot" => vec![snapshot().to_cbor()],
        "tombstone" => vec![tombstone().to_cbor()],
        "session" => vec![session().to_cbor()],
        "seen" => vec![Seen { session: SessionId([1; 16]), records: vec![1, 2, 300], unknown: unknown() }.to_cbor()],
        "end" => vec![End { session: SessionId([1; 16]), at_ns: -5, unknown: unknown() }.to_cbor()],
        "condemned" => vec![condemned().to_cbor()],
        "run" => vec![run().to_cbor()],
        "ledger" => vec![ledger().to_cbor()],
        "history" => vec![history().to_cbor()],
        "key wrap" => vec![wrap().to_cbor()],
        "tree piece" => pieces(),
        "list piece" => lists(),
        "directory" => vec![directory().to_cbor()],
        "head" => vec![head().to_cbor()],
        "pack rows" => vec![pack_rows().to_cbor()],
        "frame rows" => vec![frame_rows().to_cbor()],
        "entry rows" => vec![entries().to_cbor()],
        "trailer" => vec![trailer(ObjectKind::Directory, 100).to_vec()],
        "envelope" => envelopes(),
        "envelope's plaintext" => vec![b"\x03\0\0\0abc\0\0\0\0".to_vec(), b"\0\0\0\0".to_vec()],
        "damage record" => {
            let (pack, blocks) = (PackId([5; 32]), vec![32, 70_000, 1 << 25]);
            vec![DamageRecord { pack, blocks, at_ns: 5, unknown: unknown() }.to_cbor()]
        }
        "page of a sidecar" => vec![page().encode()],
        other => panic!("no sample for {other}"),
    }
}

fn page() -> Page {
    let shape = Shape::new(3 << 20, "5%".parse().expect("a share")).expect("a shape");
    let hashes = (0..Page::length(&shape, 1)).map(|hash| [hash as u8; 8]).collect();
    Page { pack: PackId([5; 32]), shape, number: 1, hashes }
}

fn config() -> Config {
    Config {
        repository: REPOSITORY,
        created_ns: 1_700_000_000_000_000_000,
        chunker: ChunkerConfig {
            id: 1,
            min_bytes: 1 << 16,
            average_bytes: 1 << 18,
            max_bytes: 1 << 20,
            unknown: none(),
        },
        reader_features: vec!["one".into()],
        writer_features: vec!["one".into(), "two".into()],
        store: StoreConfig {
            put_if_absent: true,
            list_after_write: true,
            range_reads: true,
            skew_ms: Some(-250),
            unknown: unknown(),
        },
        revision: 3,
        parity: Some(500),
        unknown: unknown(),
    }
}

fn guard(kind: GuardKind) -> Guard {
    let stretched = (kind == GuardKind::Passphrase).then_some(3);
    Guard {
        kind,
        salt: Bytes(vec![7; if stretched.is_some() { 16 } else { 0 }]),
        memory_kib: stretched.map(|_| 65_536),
        passes: stretched,
        lanes: stretched.map(|_| 1),
        sealed: Bytes(vec![9; if kind == GuardKind::Recipient { 0 } else { 80 }]),
        unknown: none(),
    }
}

fn slots() -> Vec<Slot> {
    [GuardKind::Passphrase, GuardKind::KeyFile, GuardKind::Command, GuardKind::Recipient]
        .map(|kind| Slot {
            id: SlotId([5; 16]),
            created_ns: 1,
            label: "the safe".into(),
            public: [3; 32],
            guard: guard(kind),
            psk_under_root: Bytes(vec![1; 48]),
            grant: Some(StoredGrant { encapsulated: [8; 32], sealed: Bytes(vec![2; 48]), unknown: none() }),
            proven_ns: 0,
            replaces: Some(SlotId([6; 16])),
            access: None,
            unknown: unknown(),
        })
        .into()
}

fn credential() -> Credential {
    let epoch = |number| ClientEpoch {
        id: EpochId([1; 16]),
        number,
        index: Bytes(vec![1; 32]),
        metadata: KeyId([2; 16]),
        metadata_recipient: [3; 32],
        data: KeyId([4; 16]),
        data_recipient: [5; 32],
        voucher: [6; 32],
        unknown: unknown(),
    };
    Credential { dedup: Bytes(vec![7; 32]), epochs: vec![epoch(1), epoch(2)], config: [8; 32], unknown: unknown() }
}

fn epoch() -> Epoch {
    let class =
        |class| ClassEntry { class, number: 1, id: KeyId([6; 16]), sealed: Bytes(vec![1; 48]), unknown: none() };
    Epoch {
        id: EpochId([2; 16]),
        number: 1,
        created_ns: 5,
        classes: (1..=4).map(class).collect(),
        replaces: Some(EpochId([3; 16])),
        before: vec![Bytes(vec![1; 40]), Bytes(vec![2; 3])],
        unknown: unknown(),
    }
}

fn problem() -> StoredProblem {
    StoredProblem { subject: Bytes(b"/etc/shadow\xff".to_vec()), message: "permission denied".into(), unknown: none() }
}

fn totals() -> Totals {
    Totals {
        files: 1,
        directories: 2,
        others: 3,
        bytes: 1 << 40,
        files_new: 5,
        files_changed: 6,
        bytes_read: 7,
        bytes_new: 8,
        bytes_delta: 9,
        stored_delta: 10,
        stored_data: 11,
        metadata_new: 12,
        stored_metadata: 13,
        added: 14,
        whole_delta: 15,
        unknown: none(),
    }
}

fn stream() -> Stream {
    Stream {
        path: Bytes(b"/dump.sql".to_vec()),
        kind: "command".into(),
        command: vec![Bytes(b"pg_dump".to_vec()), Bytes(b"shop\xff".to_vec())],
        status: Some(-9),
        errors: Bytes(b"terminated".to_vec()),
        bytes: 100,
        unknown: none(),
    }
}

fn imported() -> ImportedDump {
    ImportedDump {
        path: Bytes(b"/srv/shop.dump".to_vec()),
        kind: "postgres-custom".into(),
        tool: "pg_dump 15.8".into(),
        server: "PostgreSQL 15.8".into(),
        database: "shop".into(),
        state: "truncated".into(),
        reason: "it ends in the rows of public.orders".into(),
        bytes: 100,
        compression: "zstd".into(),
        tables: vec![
            ImportedTable { name: "public.orders".into(), rows: None, unknown: none() },
            ImportedTable { name: "public.users".into(), rows: Some(7), unknown: none() },
        ],
        table_count: 2,
        rows: 7,
        notes: vec!["a note".into()],
        unknown: none(),
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        id: SessionId([1; 16]),
        time_ns: 3,
        begun_ns: 1,
        ended_ns: 2,
        host: "tower".into(),
        user: "root".into(),
        root: BlobId([9; 32]),
        paths: vec![Bytes(b"/home".to_vec()), Bytes(vec![b'/', 0xff])],
        tags: vec!["nightly".into()],
        parent: Some(SessionId([2; 16])),
        partial: true,
        problems: vec![problem()],
        problem_count: 1,
        totals: totals(),
        program: "keepstone 0.1.0".into(),
        excludes: vec![Bytes(b"*.o".to_vec()), Bytes(b"\xff".to_vec())],
        streams: vec![stream()],
        kinds: vec!["command".into(), "files".into()],
        original: None,
        description: String::new(),
        received_ns: 4,
        dumps: Vec::new(),
        segments: vec![SegmentId([7; 32])],
        imported: vec![imported()],
        validated: true,
        log: vec![RunRef { id: RunId([8; 16]), hash: [9; 32], unknown: none() }],
        unverified: true,
        copied: Some(Copied { repository: RepositoryId([3; 32]), snapshot: SessionId([4; 16]), unknown: none() }),
        unknown: unknown(),
    }
}

fn tombstone() -> Tombstone {
    Tombstone { session: SessionId([1; 16]), fenced_by: SessionId([2; 16]), at_ns: 3, unknown: unknown() }
}

fn session() -> Session {
    Session {
        id: SessionId([1; 16]),
        kind: SessionKind::Writer,
        host: "tower".into(),
        process: 4711,
        boot: "b0".into(),
        process_began: 12_345,
        begun_ns: 6,
        program: "keepstone".into(),
        operation: "backup".into(),
        unknown: unknown(),
    }
}

fn condemned() -> Condemned {
    Condemned {
        number: 7,
        session: SessionId([1; 16]),
        at_ns: 2,
        packs: vec![PackId([1; 32]), PackId([2; 32])],
        segments: vec![SegmentId([3; 32])],
        snapshots: vec![SessionId([4; 16])],
        kept_segments: Vec::new(),
        voucher: Some(voucher()),
        unknown: unknown(),
    }
}

fn voucher() -> Voucher {
    Voucher { key: KeyId([6; 16]), signature: Bytes(vec![7; 64]), unknown: unknown() }
}

fn history() -> History {
    History {
        id: RunId([7; 16]),
        made_ns: 5,
        runs: vec![run(), run()],
        dropped_before_ns: Some(-4),
        dropped: vec![RunRef { id: RunId([3; 16]), hash: [4; 32], unknown: none() }],
        unknown: unknown(),
    }
}

fn ledger() -> Ledger {
    let packs =
        |at_ns, packs: &[u8], damaged| PacksRead { at_ns, packs: Bytes(packs.into()), damaged, unknown: none() };
    let found = |finding| SnapshotsFound {
        at_ns: 1_700_000_000_000_000_000,
        finding,
        snapshots: vec![SessionId([1; 16]), SessionId([2; 16])],
        unknown: none(),
    };
    Ledger {
        run: RunId([3; 16]),
        at_ns: 1_700_000_000_000_000_000,
        covers: vec![RunId([4; 16])],
        packs: vec![packs(-5, &[&[1; 8], &[2u8; 8][..]].concat(), false), packs(7, &[9; 8], true)],
        snapshots: vec![found(Finding::Whole), found(Finding::Hurt), found(Finding::Drilled)],
        unknown: unknown(),
    }
}

fn run() -> Run {
    Run {
        id: RunId([1; 16]),
        operation: "backup".into(),
        begun_ns: 1,
        ended_ns: 2,
        host: "tower".into(),
        program: "keepstone".into(),
        outcome: Outcome::Partial,
        session: Some(SessionId([2; 16])),
        snapshots: vec![SessionId([2; 16])],
        figures: vec![Figure { name: "files".into(), value: 3, unknown: none() }],
        problems: vec![problem()],
        previous: vec![RunRef { id: RunId([3; 16]), hash: [4; 32], unknown: none() }],
        slot: Some(SlotId([5; 16])),
        sequence: 7,
        ledger: Some([6; 32]),
        unverified: true,
        profile: Some("web".into()),
        by: Some("schedule".into()),
        phases: vec![RunPhase {
            name: "backup".into(),
            outcome: "failed".into(),
            message: "no answer".into(),
            duration_ms: 4,
            figures: vec![Figure { name: "files".into(), value: 3, unknown: none() }],
            kind: Some("unavailable".into()),
            unknown: unknown(),
        }],
        tables: vec![RunTable {
            source: "@postgres/shop".into(),
            name: "public.orders".into(),
            rows: 5,
            bytes: 6,
            unknown: unknown(),
        }],
        unknown: unknown(),
    }
}

fn wrap() -> KeyWrap {
    KeyWrap { recipient: KeyId([1; 16]), wrapped: Bytes(vec![3; 81]), unknown: none() }
}

fn node(name: &[u8], kind: NodeKind) -> Node {
    Node {
        name: Bytes(name.to_vec()),
        kind,
        mode: 0o755,
        uid: 1000,
        gid: 1000,
        mtime_ns: 1_700_000_000_123_456_789,
        ctime_after_ns: -5,
        size: 0,
        inode: 77,
        device: 3,
        links: None,
        target: Bytes::default(),
        rdev: None,
        xattrs: Vec::new(),
        changed: false,
        inline: Bytes::default(),
        chunks: Ids::default(),
        lengths: Vec::new(),
        list: None,
        tree: None,
        unknown: none(),
    }
}

fn nodes() -> Vec<Node> {
    let file = |name: &[u8], size| Node { size, ..node(name, NodeKind::File) };
    let two = Ids(vec![BlobId([1; 32]), HOLE]);
    vec![
        Node { inline: Bytes(b"hello".to_vec()), links: Some(2), changed: true, ..file(b"a", 5) },
        Node { chunks: Ids(vec![BlobId([1; 32])]), unknown: unknown(), ..file(b"b", 70_000) },
        Node { chunks: two, lengths: vec![70_000, 1 << 40], ..file(b"c", 70_000 + (1 << 40)) },
        Node { list: Some(BlobId([2; 32])), ..file(b"d", 1 << 50) },
        Node { tree: Some(BlobId([3; 32])), ..node(b"e", NodeKind::Directory) },
        Node { target: Bytes(b"../a".to_vec()), ..node(b"f", NodeKind::Symlink) },
        Node { rdev: Some(0x0801), ..node(b"g", NodeKind::BlockDevice) },
        Node { xattrs: vec![Xattr { name: b"user.x".to_vec(), value: Vec::new() }], ..node(b"h\xff", NodeKind::Fifo) },
        file(b"i", 0),
    ]
}

fn pieces() -> Vec<Vec<u8>> {
    let owner = |id, name: &str| Owner { id, name: Bytes(name.into()), unknown: none() };
    let leaf = TreePiece {
        level: 0,
        nodes: nodes(),
        children: Vec::new(),
        users: vec![owner(0, "root"), owner(1000, "ada")],
        groups: vec![owner(1000, "ada")],
        unknown: unknown(),
    };
    let child = |first: &[u8]| Child { first: Bytes(first.to_vec()), piece: BlobId([7; 32]), unknown: none() };
    let upper = TreePiece {
        level: 1,
        nodes: Vec::new(),
        children: vec![child(b"a"), child(b"m")],
        users: Vec::new(),
        groups: Vec::new(),
        unknown: none(),
    };
    let empty = TreePiece { children: Vec::new(), level: 0, ..upper.clone() };
    [leaf, upper, empty].iter().map(Cbor::to_cbor).collect()
}

fn lists() -> Vec<Vec<u8>> {
    let ids = Ids(vec![BlobId([1; 32]), HOLE, BlobId([2; 32])]);
    let leaf = ListPiece { level: 0, ids, lengths: vec![1 << 20, 1 << 33, 5], unknown: unknown() };
    let upper = ListPiece { level: 1, ids: Ids(vec![BlobId([3; 32])]), lengths: vec![1 << 41], unknown: none() };
    vec![leaf.to_cbor(), upper.to_cbor()]
}

fn chain() -> Chain {
    Chain { bases: vec![BlobId([1; 32]), BlobId([2; 32])], depth: 3, delta_bytes: 1000, whole_bytes: 90_000 }
}

fn directory() -> Directory {
    let frame = |block, offset, length, raw_length, encoding| Frame {
        block,
        offset,
        length,
        raw_length,
        encoding,
        chain: None,
    };
    let blob = |id, frame, offset, length| Blob {
        id: BlobId([id; 32]),
        kind: BlobKind::Data,
        frame,
        offset,
        length,
        start: None,
        end: None,
    };
    Directory {
        session: SessionId([1; 16]),
        role: Role::Data,
        keys: vec![KeyId([1; 16])],
        blocks: vec![Block { offset: 32, length: 500, key: 0 }, Block { offset: 532, length: 468, key: 0 }],
        frames: vec![
            frame(0, 0, 100, 100, Encoding::Raw),
            frame(0, 100, 300, 70_000, Encoding::Zstd),
            Frame { chain: Some(chain()), ..frame(1, 0, 436, 90_000, Encoding::ZstdOnBases) },
        ],
        blobs: vec![
            blob(1, 0, 0, 60),
            blob(2, 0, 60, 40),
            Blob { end: Some(Mark([3; 8])), ..blob(3, 1, 0, 70_000) },
            Blob { start: Some(Mark([3; 8])), end: Some(Mark([4; 8])), ..blob(4, 2, 0, 90_000) },
        ],
        wraps: vec![wrap()],
        written_ns: 5,
        note: Bytes(b"note".to_vec()),
        voucher: Some(voucher()),
        unknown: unknown(),
    }
}

fn head() -> Head {
    let page = |offset, rows, first| PageRef { offset, length: 200, rows, first };
    Head {
        session: SessionId([1; 16]),
        level: 1,
        supersedes: vec![SegmentId([2; 32])],
        condemned_seen: 4,
        keys: vec![KeyId([1; 16])],
        pack_pages: vec![page(32, 1, None)],
        frame_pages: vec![page(232, 2, None)],
        entry_pages: vec![page(432, 5, Some(BlobId([1; 32]))), page(800, 6, Some(BlobId([2; 32])))],
        entries: 11,
        written_ns: 9,
        page_key: KeyId([1; 16]),
        previous: vec![SegmentId([3; 32])],
        voucher: None,
        unknown: unknown(),
    }
}

fn pack_rows() -> Vec<PackRow> {
    let row = |id, role| PackRow { id: PackId([id; 32]), size_bytes: 1 << 25, role, written_ns: -1 };
    vec![row(1, Role::Data), row(2, Role::Metadata)]
}

fn frame_rows() -> Vec<FrameRow> {
    let plain = FrameRow {
        pack: 0,
        block_offset: 32,
        block_length: 500,
        key: 0,
        offset: 0,
        length: 300,
        raw_length: 70_000,
        encoding: Encoding::Zstd,
        chain: None,
    };
    vec![FrameRow { encoding: Encoding::ZstdOnBases, chain: Some(chain()), ..plain.clone() }, plain]
}

fn entries() -> Vec<Entry> {
    let plain =
        Entry { id: BlobId([1; 32]), frame: 3, offset: 60, length: 40, kind: BlobKind::Tree, start: None, end: None };
    vec![Entry { start: Some(Mark([1; 8])), kind: BlobKind::Data, ..plain }, plain]
}

fn envelopes() -> Vec<Vec<u8>> {
    let (id, siv) = key();
    vec![
        envelope::seal(KIND, REPOSITORY, id, &siv, &snapshot().to_cbor()),
        envelope::seal(KIND, REPOSITORY, id, &siv, b""),
        envelope::seal_wrapped(KIND, REPOSITORY, id, &siv, b"content", &wrap()),
    ]
}

/// The samples pass their checks with this place for the end of their blocks.
pub fn check_places() {
    directory().check(BLOCKS_END).expect("the sample directory is sound");
    head().check(BLOCKS_END).expect("the sample head is sound");
}

/// Small dumps as database programs write them.
pub fn dumps() -> Vec<Vec<u8>> {
    let gzip = |bytes: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut writer, bytes).unwrap();
        writer.finish().unwrap()
    };
    let sql: [&[u8]; 3] = [
        b"--\n-- PostgreSQL database dump\n--\n\n\\restrict a\n-- Dumped by pg_dump version 15.8\n\nCREATE TABLE public.t (\n);\n\
          CREATE FUNCTION f() AS $_$;$_$;\nCOPY public.t (a) FROM stdin;\n1\n\\N\n\\.\n\nINSERT INTO t VALUES (1, 'a;', E'\\''), \
          (2);\n/* a /* b */ */\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict a\n",
        b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19  Distrib 10.11.6, for x\n--\n-- Host: h    Database: shop\n\
          USE `shop`;\nCREATE TABLE `t` (a int);\nINSERT INTO `t` VALUES (1,'a\\''),(2,\"b\");\nDELIMITER ;;\n/*!50003 CREATE \
          TRIGGER x BEGIN SET a = 1; END */;;\nDELIMITER ;\n-- Dump completed\n",
        b"\n\nINSERT INTO public.t VALUES (1);\n\n\n",
    ];
    let custom = custom_archive();
    let mut dumps: Vec<Vec<u8>> = sql.iter().map(|sql| sql.to_vec()).collect();
    dumps.extend([custom, b"1\ta\n2\tb\n\\.\n\n\n".to_vec(), Vec::new()]);
    let packed: Vec<_> = dumps.iter().map(|dump| gzip(dump)).collect();
    dumps.extend(packed);
    dumps
}

/// An archive of `pg_dump` with one table of two rows.
fn custom_archive() -> Vec<u8> {
    let int = |number: i32| [&[u8::from(number < 0)][..], &number.unsigned_abs().to_le_bytes()].concat();
    let text = |text: &str| [int(text.len() as i32), text.as_bytes().to_vec()].concat();
    let mut bytes = b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec();
    (0..8).for_each(|_| bytes.extend(int(0)));
    ["shop", "15.8", "15.8"].iter().for_each(|word| bytes.extend(text(word)));
    bytes.extend([int(1), int(8), int(1)].concat());
    ["0", "16384", "t", "TABLE DATA"].iter().for_each(|word| bytes.extend(text(word)));
    bytes.extend(int(3));
    ["", "", "COPY public.t (a) FROM stdin;\n", "public", "", "", "me", "false"]
        .iter()
        .for_each(|word| bytes.extend(text(word)));
    bytes.extend([int(-1), vec![1, 0, 0, 0, 0, 0, 0, 0, 0], vec![1], int(8)].concat());
    bytes.extend([text("1\n2\n\\.\n\n\n"), int(0)].concat());
    bytes
}
