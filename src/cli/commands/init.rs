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
    /// The repository whose names it has; null if it has its own.
    like: Option<String>,
    /// How much of a pack can be made anew, in per cent; null if packs get no sidecars.
    parity_percent: Option<f64>,
}

/// Makes a new repository.
pub fn run(app: &App, given: &Init) -> Result<Exit> {
    let like = given.from.as_ref().map(|from| app.from(from, &given.opened).repository()).transpose()?;
    let (repository, by) = create_as(app, &given.new, like.as_ref())?;
    let location = repository.store().location();
    if app.out.is_json() {
        app.out.object(&JsonInit {
            message_type: "init",
            repository_id: repository.id().to_string(),
            location,
            key_slot_id: repository.slot().to_string(),
            like: like.as_ref().map(|like| like.id().to_string()),
            parity_percent: given.new.parity.map(|share| f64::from(share.hundredths()) / 100.0),
        });
        return Ok(Exit::Done);
    }
    app.out.line(format!("made repository {} in {}", repository.id().short(), human::name(location.as_bytes())));
    if let Some(share) = given.new.parity {
        app.out.line(format!("each pack gets a sidecar with which {share} of it can be made anew"));
    }
    let mut next = "backup PATH".to_owned();
    if let (Some(like), Some(from)) = (&like, &given.from) {
        let of = human::name(like.store().location().as_bytes());
        app.out.line(format!("it cuts and names content as {of} does; all other keys are its own"));
        next = format!("copy --from {}", human::shell_word(&from.to_string_lossy()));
    }
    let safe = "nothing yet: the repository is empty";
    let next = match &app.global.of_profile {
        Some(name) if like.is_none() => app.config_command(&format!("run {}", human::shell_word(name))),
        _ => app.command(&next),
    };
    app.close_with(safe, &format!("{by} cannot be recovered; keep it in a second place"), &next);
    Ok(Exit::Done)
}

/// Makes a new repository; says also what opens it.
pub fn create(app: &App, given: &NewRepository) -> Result<(Repository, &'static str)> {
    create_as(app, given, None)
}

/// The same, with the chunker and the dedup key of another.
fn create_as(app: &App, given: &NewRepository, like: Option<&Repository>) -> Result<(Repository, &'static str)> {
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
    let store = location.create(&app.reach()?)?;
    let by = if matches!(unlock, Unlock::Passphrase(_)) { "a lost password" } else { "a lost key file" };
    let mut repository = match like {
        Some(like) => Repository::create_like(store, like, &unlock, guard, "first", Clock::System)?,
        None => Repository::create(store, Sizes::V1, &unlock, guard, "first", Clock::System)?,
    };
    if given.parity.is_some() {
        repository.set_parity(given.parity)?;
    }
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
