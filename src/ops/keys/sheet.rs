//! What somebody needs on a bare machine, gathered for one sheet of paper.

use super::super::{Context, Result};
use super::list::{SlotInfo, list};
use super::recorded;
use super::{add_recipient, remove_unproven};
use crate::base::{KeyId, RepositoryId, Secret, SlotId};
use crate::crypto::identity::generate_identity;
use crate::crypto::slots::{Recipient, Unlock};
use crate::repo::SealedRepository;

/// What stands on a recovery sheet.
pub struct Sheet {
    /// The repository's id.
    pub repository: RepositoryId,
    /// Where it is, as its store says it.
    pub location: String,
    /// The root key's id: who opens with an identity compares it.
    pub root: KeyId,
    /// When the repository was made, nanoseconds since 1970.
    pub created_ns: i64,
    /// When the sheet was made.
    pub made_ns: i64,
    /// The machine it was made on.
    pub host: String,
    /// The program and its version.
    pub program: String,
    /// All key slots.
    pub slots: Vec<SlotInfo>,
    /// An identity that was made for this sheet.
    pub recovery: Option<Recovery>,
}

/// An identity that exists nowhere but here, and the slot that it opens.
pub struct Recovery {
    /// The slot.
    pub slot: SlotId,
    /// Its recipient.
    pub recipient: Recipient,
    /// The identity.
    pub identity: Secret<[u8; 32]>,
}

/// Gathers a sheet. With `label` a recovery identity is made, given a slot of this label, and opened with once: it is
/// in nobody's hands but the caller's.
pub fn recovery_sheet(context: &Context, label: Option<&str>) -> Result<Sheet> {
    let recovery = label.map(|label| make_recovery(context, label)).transpose()?;
    let repository = &context.repository;
    Ok(Sheet {
        repository: repository.id(),
        location: repository.store().location(),
        root: repository.root_id(),
        created_ns: repository.config().created_ns,
        made_ns: repository.now_ns(),
        host: repository.machine().host.clone(),
        program: repository.machine().program.clone(),
        slots: list(context)?,
        recovery,
    })
}

fn make_recovery(context: &Context, label: &str) -> Result<Recovery> {
    let identity = generate_identity();
    let recipient = Recipient::of(&identity);
    let slot = add_recipient(context, &recipient, label)?.id;
    // A sheet that lies in a safe for years has to open: it is tried from the very beginning, as on a bare machine.
    let opened = SealedRepository::open(context.repository.store().clone())
        .and_then(|sealed| sealed.unlock(&Unlock::Identity(identity.clone()), context.repository.clock().clone()));
    match opened {
        Ok(opened) if opened.slot() == slot => Ok(Recovery { slot, recipient, identity }),
        other => {
            remove_recovery(context, slot)?;
            let reason = other.err().map_or("another slot opened".to_owned(), |error| error.to_string());
            Err(crate::repo::Error::damaged("the slot of the recovery key", reason).into())
        }
    }
}

/// Takes back the slot of a recovery identity that nobody got to see.
pub fn remove_recovery(context: &Context, slot: SlotId) -> Result<()> {
    recorded(context, "key remove", || remove_unproven(context, slot))
}
