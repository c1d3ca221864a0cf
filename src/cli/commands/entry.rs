//! One entry of a snapshot, as a line for people or for programs.

use crate::cli::app::App;
use crate::cli::print::human;
use crate::cli::print::json::path_pair;
use crate::format::tree::{Node, NodeKind};
use crate::ops::browse::Entry;
use serde::Serialize;

/// An entry of a snapshot, in JSON.
#[derive(Serialize)]
pub struct JsonEntry {
    message_type: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    #[serde(flatten)]
    node: JsonNode,
    /// Name of the owner; empty if there was none.
    user: String,
    /// Name of the group.
    group: String,
    /// The snapshot, where several are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
}

/// What is known of an entry besides its name, in JSON.
#[derive(Serialize)]
pub struct JsonNode {
    /// `file`, `directory`, `symlink`, `fifo`, `socket`, `character_device`, `block_device`.
    kind: &'static str,
    /// The twelve permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: String,
    /// Where a symlink points.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_hex: Option<String>,
    /// Whether the file changed while it was read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    changed_while_read: bool,
}

impl From<&Node> for JsonNode {
    fn from(node: &Node) -> JsonNode {
        let target = (node.kind == NodeKind::Symlink).then(|| path_pair(&node.target.0));
        let (target, target_hex) = target.map_or((None, None), |(text, hex)| (Some(text), hex));
        JsonNode {
            kind: kind_name(node.kind),
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            size: node.size,
            mtime: human::rfc3339(node.mtime_ns),
            target,
            target_hex,
            changed_while_read: node.changed,
        }
    }
}

/// What JSON calls a kind of entry.
pub fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symlink",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
        NodeKind::CharDevice => "character_device",
        NodeKind::BlockDevice => "block_device",
    }
}

/// Prints an entry.
pub fn print(app: &App, entry: &Entry<'_>, long: bool, snapshot: Option<&str>) {
    if app.out.is_json() {
        let (path, path_hex) = path_pair(entry.path);
        app.out.object(&JsonEntry {
            message_type: "entry",
            path,
            path_hex,
            node: entry.node.into(),
            user: String::from_utf8_lossy(entry.user).into_owned(),
            group: String::from_utf8_lossy(entry.group).into_owned(),
            snapshot: snapshot.map(str::to_owned),
        });
    } else if long {
        app.out.line(long_line(entry));
    } else {
        app.out.line(human::name(entry.path));
    }
}

fn long_line(entry: &Entry<'_>) -> String {
    let node = entry.node;
    let owner = |name: &[u8], number: u32| match name {
        b"" => number.to_string(),
        name => human::name(name),
    };
    let target = match node.kind {
        NodeKind::Symlink => format!(" -> {}", human::name(&node.target.0)),
        _ => String::new(),
    };
    format!(
        "{} {:<8} {:<8} {:>12} {} {}{target}",
        human::mode(node.kind, node.mode),
        owner(entry.user, node.uid),
        owner(entry.group, node.gid),
        node.size,
        human::time(node.mtime_ns),
        human::name(entry.path),
    )
}
