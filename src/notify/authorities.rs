//! Whom we trust when we talk to a server: the authorities of the system, and those of a file besides.

use super::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// No file of authorities is larger.
const MOST_BYTES: u64 = 4 << 20;

/// The text of a file of authorities.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::io(format!("read the authorities in {}", path.display()), &error);
    let mut pem = Vec::new();
    File::open(path).map_err(failed)?.take(MOST_BYTES).read_to_end(&mut pem).map_err(failed)?;
    Ok(pem)
}
