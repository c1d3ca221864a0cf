//! Objects shown as they are, for people who want to look inside.

use super::super::select::{Filter, select};
use super::super::{Context, Error, Result};
use super::reader;
use crate::base::{BlobId, PackId, RunId, SegmentId, SessionId, ids::to_hex};
use crate::format::config::Config;
use crate::format::pack::{Directory, Frame};
use crate::format::run::Run;
use crate::format::session::{Condemned, Session};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Node, TreePiece};
use crate::repo;
use crate::repo::index::segments::SegmentReader;
use crate::repo::pack_reader::{pack_key, read_directory};
use crate::repo::{runs, session, slots};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fmt::Display;

/// What there is to show.
#[derive(Clone, Debug, PartialEq)]
pub enum Cat {
    /// A structure.
    Value(Value),
    /// Plain bytes.
    Bytes(Vec<u8>),
}

/// The kinds of objects that [`cat`] knows.
pub const KINDS: &[&str] =
    &["config", "snapshot", "tree", "blob", "pack", "segment", "key", "session", "run", "condemned"];

/// Shows an object. `name` is an id; for a snapshot whatever selects one, for a condemned record its number, for the
/// config nothing.
pub fn cat(context: &Context, kind: &str, name: &str) -> Result<Cat> {
    let value = match kind {
        "config" => config(context.repository.config()),
        "snapshot" => snapshot(&select(context, OsStr::new(name), &Filter::default())?.snapshot),
        "tree" => {
            let id: BlobId = id(name)?;
            let bytes = reader(context).read(&id)?;
            tree(&TreePiece::decode(&bytes).map_err(repo::Error::object(format!("tree {id}")))?)
        }
        "blob" => return Ok(Cat::Bytes(reader(context).read(&id::<BlobId>(name)?)?.to_vec())),
        "pack" => {
            let id: PackId = id(name)?;
            let store = &**context.repository.store();
            let size_bytes = store.size(&pack_key(id))?;
            pack(id, size_bytes, &read_directory(store, context.repository.keyring(), id, size_bytes)?)
        }
        "segment" => segment(context, id(name)?)?,
        "key" => key(context, name)?,
        "session" => open_session(context, id(name)?)?,
        "run" => run(context, id(name)?)?,
        "condemned" => {
            let number = name.parse().map_err(|_| Error::Usage(format!("`{name}` is no number of a record")))?;
            let repository = &context.repository;
            condemned(&session::load_condemned(&**repository.store(), repository.keyring(), number)?)
        }
        _ => return Err(Error::Usage(format!("`{kind}` is no kind of object: there are {}", KINDS.join(", ")))),
    };
    Ok(Cat::Value(value))
}

fn id<T: std::str::FromStr<Err = crate::base::NotAnId>>(name: &str) -> Result<T> {
    name.parse().map_err(|error: crate::base::NotAnId| Error::Usage(error.to_string()))
}

/// Bytes that should be text as text; others as hexadecimal digits.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": to_hex(bytes) }),
    }
}

fn shown<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn maybe<T: Display>(item: Option<&T>) -> Value {
    item.map_or(Value::Null, |item| json!(item.to_string()))
}

fn config(config: &Config) -> Value {
    let chunker = &config.chunker;
    json!({
        "repository": config.repository.to_string(),
        "created_ns": config.created_ns,
        "chunker": {
            "id": chunker.id,
            "min_bytes": chunker.min_bytes,
            "average_bytes": chunker.average_bytes,
            "max_bytes": chunker.max_bytes,
        },
        "reader_features": config.reader_features,
        "writer_features": config.writer_features,
        "store": {
            "put_if_absent": config.store.put_if_absent,
            "list_after_write": config.store.list_after_write,
            "range_reads": config.store.range_reads,
            "skew_ms": config.store.skew_ms,
        },
        "revision": config.revision,
    })
}

fn snapshot(snapshot: &Snapshot) -> Value {
    let totals = &snapshot.totals;
    let problems = snapshot.problems.iter();
    json!({
        "id": snapshot.id.to_string(),
        "time_ns": snapshot.time_ns,
        "begun_ns": snapshot.begun_ns,
        "ended_ns": snapshot.ended_ns,
        "received_ns": snapshot.received_ns,
        "host": snapshot.host,
        "user": snapshot.user,
        "root": snapshot.root.to_string(),
        "paths": snapshot.paths.iter().map(|path| text(&path.0)).collect::<Vec<_>>(),
        "tags": snapshot.tags,
        "kinds": snapshot.kinds,
        "description": snapshot.description,
        "parent": maybe(snapshot.parent.as_ref()),
        "original": maybe(snapshot.original.as_ref()),
        "partial": snapshot.partial,
        "problem_count": snapshot.problem_count,
        "problems": problems.map(|problem| json!([text(&problem.subject.0), problem.message])).collect::<Vec<_>>(),
        "excludes": snapshot.excludes.iter().map(|pattern| text(&pattern.0)).collect::<Vec<_>>(),
        "segments": shown(&snapshot.segments),
        "program": snapshot.program,
        "totals": {
            "files": totals.files,
            "directories": totals.directories,
            "others": totals.others,
            "bytes": totals.bytes,
            "files_new": totals.files_new,
            "files_changed": totals.files_changed,
            "bytes_read": totals.bytes_read,
            "bytes_new": totals.bytes_new,
            "bytes_delta": totals.bytes_delta,
            "stored_delta": totals.stored_delta,
            "stored_data": totals.stored_data,
            "metadata_new": totals.metadata_new,
            "stored_metadata": totals.stored_metadata,
            "added": totals.added,
        },
        "streams": snapshot.streams.iter().map(|stream| json!({
            "path": text(&stream.path.0),
            "kind": stream.kind,
            "command": stream.command.iter().map(|word| text(&word.0)).collect::<Vec<_>>(),
            "status": stream.status,
            "bytes": stream.bytes,
        })).collect::<Vec<_>>(),
        "dumps": snapshot.dumps.iter().map(|dump| json!({
            "path": text(&dump.path.0),
            "kind": dump.kind,
            "database": dump.database,
            "server": dump.server,
            "identity": dump.identity,
            "tables": dump.tables,
            "rows": dump.rows,
            "bytes": dump.bytes,
            "taken_ns": dump.taken_ns,
        })).collect::<Vec<_>>(),
    })
}

fn tree(piece: &TreePiece) -> Value {
    let owner = |owner: &crate::format::tree::Owner| json!([owner.id, text(&owner.name.0)]);
    json!({
        "level": piece.level,
        "nodes": piece.nodes.iter().map(node).collect::<Vec<_>>(),
        "children": piece.children.iter().map(|child| json!([text(&child.first.0), child.piece.to_string()]))
            .collect::<Vec<_>>(),
        "users": piece.users.iter().map(owner).collect::<Vec<_>>(),
        "groups": piece.groups.iter().map(owner).collect::<Vec<_>>(),
    })
}

fn node(node: &Node) -> Value {
    json!({
        "name": text(&node.name.0),
        "kind": format!("{:?}", node.kind).to_lowercase(),
        "mode": format!("{:04o}", node.mode),
        "uid": node.uid,
        "gid": node.gid,
        "mtime_ns": node.mtime_ns,
        "ctime_ns": node.mtime_ns.saturating_add(node.ctime_after_ns),
        "size": node.size,
        "inode": node.inode,
        "device": node.device,
        "links": node.links.unwrap_or(1),
        "target": text(&node.target.0),
        "rdev": node.rdev,
        "changed": node.changed,
        "inline": to_hex(&node.inline.0),
        "chunks": node.chunks().map(|(id, length)| json!([id.to_string(), length])).collect::<Vec<_>>(),
        "list": maybe(node.list.as_ref()),
        "tree": maybe(node.tree.as_ref()),
        "xattrs": node.xattrs.iter().map(|xattr| json!([text(&xattr.name), to_hex(&xattr.value)])).collect::<Vec<_>>(),
    })
}

fn pack(id: PackId, size_bytes: u64, directory: &Directory) -> Value {
    json!({
        "id": id.to_string(),
        "bytes": size_bytes,
        "session": directory.session.to_string(),
        "role": format!("{:?}", directory.role).to_lowercase(),
        "written_ns": directory.written_ns,
        "keys": shown(&directory.keys),
        "blocks": directory.blocks.iter().map(|block| json!([block.offset, block.length, block.key])).collect::<Vec<_>>(),
        "frames": directory.frames.iter().map(frame).collect::<Vec<_>>(),
        "blobs": directory.blobs.iter().map(|blob| json!({
            "id": blob.id.to_string(),
            "kind": format!("{:?}", blob.kind).to_lowercase(),
            "frame": blob.frame,
            "offset": blob.offset,
            "length": blob.length,
            "start_mark": maybe(blob.start.as_ref()),
            "end_mark": maybe(blob.end.as_ref()),
        })).collect::<Vec<_>>(),
    })
}

fn frame(frame: &Frame) -> Value {
    json!({
        "block": frame.block,
        "offset": frame.offset,
        "length": frame.length,
        "raw_length": frame.raw_length,
        "encoding": format!("{:?}", frame.encoding),
        "bases": frame.chain.as_ref().map_or(Vec::new(), |chain| shown(&chain.bases)),
        "depth": frame.chain.as_ref().map_or(0, |chain| chain.depth),
    })
}

fn segment(context: &Context, id: SegmentId) -> Result<Value> {
    let mut reader = SegmentReader::open(&**context.repository.store(), context.repository.keyring(), id)?;
    let mut packs = Vec::new();
    while let Some(pack) = reader.next_pack()? {
        packs.push(json!([pack.id.to_string(), pack.size_bytes, format!("{:?}", pack.role).to_lowercase()]));
    }
    Ok(json!({ "id": id.to_string(), "packs": packs }))
}

fn key(context: &Context, name: &str) -> Result<Value> {
    let slots = slots::list(&**context.repository.store())?;
    let mut fitting = slots.iter().map(|stored| &stored.slot).filter(|slot| slot.id.to_string().starts_with(name));
    let (Some(slot), None) = (fitting.next(), fitting.next()) else {
        return Err(Error::NotFound(format!(
            "no or more than one key slot begins with `{name}`: see `keepstone key list`"
        )));
    };
    Ok(json!({
        "id": slot.id.to_string(),
        "label": slot.label,
        "created_ns": slot.created_ns,
        "proven_ns": slot.proven_ns,
        "guard": format!("{:?}", slot.guard.kind).to_lowercase(),
        "memory_kib": slot.guard.memory_kib,
        "passes": slot.guard.passes,
        "public": to_hex(&slot.public),
    }))
}

fn open_session(context: &Context, id: SessionId) -> Result<Value> {
    let open = session::open_sessions(&context.repository)?.into_iter().find(|open| open.mark.id == id);
    let open = open.ok_or_else(|| Error::NotFound(format!("session {id} is not open")))?;
    let mark: &Session = &open.mark;
    Ok(json!({
        "id": mark.id.to_string(),
        "kind": format!("{:?}", mark.kind).to_lowercase(),
        "operation": mark.operation,
        "host": mark.host,
        "process": mark.process,
        "begun_ns": mark.begun_ns,
        "program": mark.program,
        "seen": open.seen,
        "dead": open.dead,
    }))
}

fn run(context: &Context, id: RunId) -> Result<Value> {
    let run: Option<Run> = runs::find(&context.repository, id)?;
    let run = run.ok_or_else(|| Error::NotFound(format!("there is no run {id}")))?;
    let figures = run.figures.iter().map(|figure| (figure.name.clone(), json!(figure.value)));
    Ok(json!({
        "id": run.id.to_string(),
        "operation": run.operation,
        "begun_ns": run.begun_ns,
        "ended_ns": run.ended_ns,
        "host": run.host,
        "program": run.program,
        "outcome": format!("{:?}", run.outcome).to_lowercase(),
        "sequence": run.sequence,
        "previous": run.previous.iter().map(|previous| previous.id.to_string()).collect::<Vec<_>>(),
        "session": maybe(run.session.as_ref()),
        "snapshots": shown(&run.snapshots),
        "figures": figures.collect::<serde_json::Map<_, _>>(),
        "problems": run.problems.iter().map(|problem| json!([text(&problem.subject.0), problem.message])).collect::<Vec<_>>(),
    }))
}

fn condemned(record: &Condemned) -> Value {
    json!({
        "number": record.number,
        "session": record.session.to_string(),
        "at_ns": record.at_ns,
        "packs": shown(&record.packs),
        "segments": shown(&record.segments),
    })
}
