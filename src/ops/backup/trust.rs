//! Whether what an earlier snapshot says is stored can be counted on without a look at the index.

use super::super::whole::Trust;
use super::super::{Context, Result};
use super::parent::Past;
use crate::base::Event;
use crate::format::snapshot::Snapshot;

/// Takes out of `past` what cannot be counted on. `condemned` is the record that is open, if one is.
pub fn known(context: &Context, condemned: Option<u64>, snapshots: &[Snapshot], mut past: Past) -> Result<Past> {
    let Some(number) = condemned else { return Ok(past) };
    let mut trust = Trust::beside(context, number)?;
    snapshots.iter().for_each(|snapshot| trust.hear_of(snapshot.id, snapshot.root));
    if let Some(parent) = &past.parent
        && !trust.takes(Some(parent.id), parent.root)?
    {
        let note = "what the parent needs may be deleted by a prune: everything is read";
        context.monitor.event(Event::Note(note));
        past.parent = None;
    }
    for seen in &mut past.seen {
        if let Some(at) = seen
            && !trust.takes(None, at.root)?
        {
            *seen = None;
        }
    }
    Ok(past)
}
