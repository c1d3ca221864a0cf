//! `init`: a new repository.

use crate::base::Clock;
use crate::chunk::Sizes;
use crate::cli::app::App;
use crate::cli::args::{Init, NewRepository};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::secrets;
use crate::crypto::slots::Unlock;
use crate::repo::{Repository, SealedRepository};
use serde::Serialize;

#[derive(Serialize)]
struct JsonInit {
    message_type: &'static str,
    repository_id: String,
    location: String,
    key_slot_id: String,
}

/// Makes a new repository.
pub fn run(app: &App, given: &Init) -> Result<Exit> {
    let (repository, by) = create(app, &given.new)?;
    let location = repository.store().location();
    if app.out.is_json() {
        app.out.object(&JsonInit {
            message_type: "init",
            repository_id: repository.id().to_string(),
            location,
            key_slot_id: repository.slot().to_string(),
        });
        return Ok(Exit::Done);
    }
    app.out.line(format!("made repository {} in {}", repository.id().short(), human::name(location.as_bytes())));
    let safe = "nothing yet: the repository is empty";
    app.close(safe, &format!("{by} cannot be recovered; keep it in a second place"), "backup PATH");
    Ok(Exit::Done)
}

/// Makes a new repository; says also what opens it.
pub fn create(app: &App, given: &NewRepository) -> Result<(Repository, &'static str)> {
    let location = app.location()?;
    refuse_existing(app)?;
    let brought = match &given.generate_key_file {
        Some(_) if secrets::is_given(&app.global) => {
            return Err(Error::usage("--generate-key-file makes the key: give no password and no other key with it"));
        }
        Some(path) => secrets::make_key_file(path)?,
        None => secrets::unlock_new(&app.global)?,
    };
    let guard = secrets::guard(&brought, given.cost)?;
    let unlock = brought.unlock;
    let store = location.create(app)?;
    let by = if matches!(unlock, Unlock::Passphrase(_)) { "a lost password" } else { "a lost key file" };
    let repository = Repository::create(store, Sizes::V1, &unlock, guard, "first", Clock::System)?;
    if !repository.puts_are_atomic() {
        app.look.note(
            "this store does not honour put-if-absent: backups may run at any time, but run prune only while nothing \
             else runs (`keepstone store probe` shows what was tried)",
        );
    }
    Ok((repository, by))
}

/// Before a password is asked for or a key file made.
fn refuse_existing(app: &App) -> Result<()> {
    match app.sealed() {
        Ok(sealed) => Err(crate::repo::Error::AlreadyThere(SealedRepository::store(&sealed).location()).into()),
        Err(error) if error.exit() == Exit::NoRepository => Ok(()),
        Err(error) => Err(error),
    }
}
