//! Parity sidecars: whether each pack has one, and whether they are what they were.

use super::super::{Context, Result};
use super::Sidecars;
use super::found::Found;
use super::packs::{Listed, each_there};
use crate::base::{Kind, PackId};
use crate::format::parity::Shape;
use crate::repo::parity::{self, Sidecar};

/// Looks whether packs have their sidecars, and reads those of the packs that were `read`. None if there is no parity.
pub(super) fn check(
    context: &Context,
    listed: &Listed,
    read: &dyn Fn(&PackId) -> bool,
    found: &Found,
) -> Result<Option<Sidecars>> {
    let share = parity::share(context.repository.config());
    let sidecars = parity::list(&**context.repository.store())?;
    if share.is_none() && sidecars.is_empty() {
        return Ok(None);
    }
    let mut outcome = Sidecars::default();
    each_there(context, listed, &mut |_, pack| {
        let wanted = share.and_then(|share| Shape::new(pack.size_bytes, share)).map(|shape| shape.sidecar_bytes());
        match (sidecars.get(&pack.id), wanted) {
            (None, Some(_)) => outcome.missing += 1,
            (Some(there), Some(wanted)) if *there != wanted => {
                outcome.there += 1;
                outcome.other_size += 1;
            }
            (Some(_), _) => outcome.there += 1,
            (None, None) => {}
        }
    })?;
    if let (true, Some(share)) = (outcome.missing > 0, share) {
        found.note(format!(
            "packs that have no parity sidecar although {share} is asked for: {}: run `keepstone parity`",
            outcome.missing
        ));
    }
    if outcome.other_size > 0 {
        found.note(format!(
            "parity sidecars that have another size than they should have by now: {}: `keepstone parity` makes them anew",
            outcome.other_size
        ));
    }
    for (pack, bytes) in &sidecars {
        if read(pack) {
            context.check_stop()?;
            outcome.read += 1;
            found.looked_at(1);
            read_one(context, *pack, *bytes, found)?;
        }
    }
    Ok(Some(outcome))
}

fn read_one(context: &Context, pack: PackId, bytes: u64, found: &Found) -> Result<()> {
    let store = &**context.repository.store();
    let read = Sidecar::read(store, pack, bytes).and_then(|sidecar| sidecar.check(pack));
    let key = parity::sidecar_key(pack);
    let remedy = "its pack is not touched by that; run `keepstone repair apply --all`, which makes it anew";
    match read {
        Ok(()) => {}
        // A prune took it away with its pack.
        Err(error) if error.kind() == Kind::NotFound => {}
        Err(error) if super::super::fetch::is_damage(&error) => {
            found.object(&key.to_string(), &format!("{error}: {remedy}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
