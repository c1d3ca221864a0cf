//! One pack and its sidecar: are they whole, and if not, what mends them?

use super::super::{Context, Result};
use super::{Item, Options, Way};
use crate::base::{Kind, PackId, RepositoryId};
use crate::crypto::names::PackHasher;
use crate::format::parity::CELL_BYTES;
use crate::repo;
use crate::repo::pack_reader::pack_key;
use crate::repo::parity::{self, Assessment, Outlook, Sidecar, sidecar_key};
use crate::store::ObjectStore;

/// What was found of a pack and of its sidecar; none for what is whole.
#[derive(Default)]
pub(super) struct Examined {
    pub pack: Option<Item>,
    pub sidecar: Option<Item>,
}

/// Reads a pack, of which `there` bytes are in the store, and its sidecar of `sidecar` bytes.
pub(super) fn examine(
    context: &Context,
    options: &Options<'_>,
    pack: PackId,
    there: Option<u64>,
    sidecar: Option<u64>,
) -> Result<Examined> {
    let store = &**context.repository.store();
    let mut examined = Examined::default();
    let sidecar = match sidecar.map(|bytes| Sidecar::read(store, pack, bytes)) {
        None => None,
        Some(Err(error)) if error.kind() == Kind::NotFound => None,
        Some(Err(error)) if error.kind() == Kind::Damaged => {
            examined.sidecar = Some(of_sidecar(pack, &error));
            None
        }
        Some(read) => Some(read?),
    };
    if let Some(Err(error)) = sidecar.as_ref().map(|sidecar| sidecar.check(pack)) {
        examined.sidecar = Some(of_sidecar(pack, &error));
    }
    examined.pack = wrong(store, pack, there, sidecar.as_ref())?
        .map(|(reason, way)| match way {
            Way::Nothing => from_mirror(options, context.repository.id(), pack, reason),
            way => Ok(Item { key: pack_key(pack), reason, way }),
        })
        .transpose()?;
    if examined.pack.as_ref().is_some_and(|item| item.way == Way::Nothing)
        && let Some(sidecar) = &mut examined.sidecar
    {
        // It is made from a whole pack or not at all; what it still holds may help once more is known.
        sidecar.way = Way::Nothing;
    }
    Ok(examined)
}

fn of_sidecar(pack: PackId, error: &repo::Error) -> Item {
    Item { key: sidecar_key(pack), reason: error.to_string(), way: Way::FromPack }
}

/// What is wrong with a pack, and whether its sidecar mends it; none if it is whole.
fn wrong(
    store: &dyn ObjectStore,
    pack: PackId,
    there: Option<u64>,
    sidecar: Option<&Sidecar>,
) -> Result<Option<(String, Way)>> {
    let Some(there) = there else { return Ok(Some(("it is not there".to_owned(), Way::Nothing))) };
    let Some(sidecar) = sidecar else {
        let reason = "its bytes do not have its name, and it has no sidecar that can be read";
        return Ok((!has_its_name(store, pack, there)?).then(|| (reason.to_owned(), Way::Nothing)));
    };
    let assessment = parity::assess(store, pack, there, sidecar)?;
    let Assessment { cells, damaged, unknown, .. } = assessment;
    Ok(match assessment.outlook {
        Outlook::Whole => None,
        Outlook::Mendable => {
            let reason = format!("{damaged} of its {cells} pieces of {CELL_BYTES} bytes are damaged");
            Some((reason, Way::Parity { cells: damaged }))
        }
        Outlook::Hopeless => {
            let damaged = damaged + unknown;
            let reason = format!(
                "{damaged} of its {cells} pieces of {CELL_BYTES} bytes are damaged: more than its sidecar can make anew"
            );
            Some((reason, Way::Nothing))
        }
    })
}

/// Whether the bytes of a pack have its name, as far as they can be read.
fn has_its_name(store: &dyn ObjectStore, pack: PackId, bytes: u64) -> Result<bool> {
    let mut hasher = PackHasher::new();
    parity::each_cell(store, &pack_key(pack), bytes, &mut |number, cell| {
        let length = (bytes - number * CELL_BYTES as u64).min(CELL_BYTES as u64) as usize;
        hasher.update(&cell[..length]);
        Ok(())
    })?;
    Ok(hasher.finish() == pack.0)
}

/// Whether the other repository has the pack, whole.
fn from_mirror(options: &Options<'_>, own: RepositoryId, pack: PackId, reason: String) -> Result<Item> {
    let item = |reason, way| Item { key: pack_key(pack), reason, way };
    let mirror = options.from.filter(|from| from.repository.id() == own);
    let Some(from) = mirror else { return Ok(item(reason, Way::Nothing)) };
    let store = &**from.repository.store();
    let place = store.location();
    let found = match store.size(&pack_key(pack)) {
        Ok(bytes) => has_its_name(store, pack, bytes)?,
        Err(error) if error.kind() == Kind::NotFound => {
            return Ok(item(format!("{reason}; {place} does not have it"), Way::Nothing));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(match found {
        true => item(reason, Way::Mirror),
        false => item(format!("{reason}; in {place} it is damaged too"), Way::Nothing),
    })
}
