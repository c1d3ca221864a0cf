//! What was asked of a store: requests by what they cost, repeats and bytes.
//!
//! A bucket's owner pays by the request. Writing and listing are the dear kind (about $5 a million at Amazon), reading
//! costs a tenth of that, deleting nothing; so they are counted apart.

/// Requests and bytes so far, or of a stretch of work. Repeated requests count each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that stored something.
    pub writes: u64,
    /// Requests that listed; each part of a listing is one.
    pub lists: u64,
    /// Requests that read, or asked for a size.
    pub reads: u64,
    /// Requests that deleted.
    pub deletes: u64,
    /// How often a request was made again because it failed for a reason that may pass.
    pub retries: u64,
    /// Bytes of objects sent.
    pub sent_bytes: u64,
    /// Bytes of objects received.
    pub received_bytes: u64,
}

impl Traffic {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.writes + self.lists + self.reads + self.deletes
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Traffic) -> Traffic {
        Traffic {
            writes: self.writes.saturating_sub(earlier.writes),
            lists: self.lists.saturating_sub(earlier.lists),
            reads: self.reads.saturating_sub(earlier.reads),
            deletes: self.deletes.saturating_sub(earlier.deletes),
            retries: self.retries.saturating_sub(earlier.retries),
            sent_bytes: self.sent_bytes.saturating_sub(earlier.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
        }
    }
}
