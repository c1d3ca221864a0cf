//! Whether packs get sidecars, and how large: a setting in the config.

use crate::format::config::{self, Config};
use crate::format::parity::Share;
use crate::repo::{Error, Repository, Result, config_key, copy_of, roots};
use crate::store::Area;

/// How much of a pack its sidecar can make anew; none if packs get no sidecars.
pub fn share(config: &Config) -> Option<Share> {
    // One that this version does not know is none: it protects less, and breaks nothing.
    config.parity.and_then(Share::from_hundredths)
}

impl Repository {
    /// Sets how much of a pack its sidecar can make anew, for all packs that are stored from now on. Whoever has opened
    /// the repository before goes on as it was. Gives whether anything changed.
    ///
    /// A crash leaves the old setting or the new one: of two configs the one with the higher revision counts.
    pub fn set_parity(&mut self, share: Option<Share>) -> Result<bool> {
        self.check_writable()?;
        roots::refuse_while_exchanged(self)?;
        let current = roots::current_config(&*self.store)?;
        current.prove(self.keyring.root()?).map_err(Error::object("config"))?;
        let wanted = share.map(Share::hundredths);
        if current.config.parity == wanted {
            self.config = current.config;
            return Ok(false);
        }
        let next = Config { revision: current.config.revision + 1, parity: wanted, ..current.config };
        let bytes = config::encode(&next, self.keyring.root()?);
        for key in [copy_of(&config_key()), config_key()] {
            self.store.replace(&key, &bytes)?;
        }
        self.store.flush(Area::Config)?;
        // Somebody may have exchanged the root key, or set something else, at the very same time.
        roots::refuse_while_exchanged(self)?;
        if roots::current_config(&*self.store)?.config != next {
            return Err(Error::Refused(
                "somebody else changed the config just now: look, and run this again".to_owned(),
            ));
        }
        self.config = next;
        Ok(true)
    }
}
