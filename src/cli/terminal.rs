//! The terminal: progress while a command works, problems as they happen, and signals.

use super::args::Global;
use super::print::{human, say};
use crate::base::clock::Stopwatch;
use crate::base::{Event, Monitor, Stop};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often the line is drawn anew.
const TICK: Duration = Duration::from_millis(100);
/// The name of the file at work is taken note of this often at most.
const NAME_EVERY_MS: u64 = 100;
/// Problems that are told one by one; the summary counts them all.
const MAX_TOLD: u64 = 100;

/// Notes and problems that are remembered as told.
const MAX_SAID: usize = 1000;

/// Looks on for a person at a terminal, or for whoever reads standard error.
pub struct Look {
    bar: Option<ProgressBar>,
    json: bool,
    quiet: bool,
    items: AtomicU64,
    all_items: AtomicU64,
    told: AtomicU64,
    /// Notes and problems that were told: what several steps of a command meet is told once.
    said: Mutex<BTreeSet<String>>,
    since_start: Stopwatch,
    named_at_ms: AtomicU64,
    stop: Stop,
}

impl Look {
    /// Progress is drawn only on a terminal, and not if the options say otherwise.
    pub fn new(global: &Global, stop: Stop) -> Look {
        let drawn = io::stderr().is_terminal() && !global.quiet && !global.json && !global.no_progress;
        Look {
            bar: drawn.then(|| {
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)).with_style(spinner())
            }),
            json: global.json,
            quiet: global.quiet,
            items: AtomicU64::new(0),
            all_items: AtomicU64::new(0),
            told: AtomicU64::new(0),
            said: Mutex::default(),
            since_start: Stopwatch::start(),
            named_at_ms: AtomicU64::new(0),
            stop,
        }
    }

    /// Takes the progress away, so that results can be printed.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let told = self.told.load(Ordering::Relaxed);
        if told > MAX_TOLD && !self.json {
            say(format!("keepstone: {} more problems are not shown", human::count(told - MAX_TOLD)));
        }
    }

    /// Tells something that is worth knowing.
    pub fn note(&self, text: &str) {
        self.is_new(text);
        if !self.quiet {
            self.tell("note", text, None);
        }
    }

    /// The same, unless it was told when it was found.
    pub fn note_once(&self, text: &str) {
        if self.is_new(text) {
            self.note(text);
        }
    }

    /// Whether it was not told yet; it counts as told from now on.
    fn is_new(&self, text: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() >= MAX_SAID || said.insert(text.to_owned())
    }

    fn tell(&self, message_type: &str, text: &str, subject: Option<&str>) {
        let line = if self.json {
            let mut object = serde_json::json!({ "message_type": message_type, "message": text });
            if let Some(subject) = subject {
                object["subject"] = subject.into();
            }
            object.to_string()
        } else {
            format!("keepstone: {text}")
        };
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.suspend(|| say(line)),
            _ => say(line),
        }
    }

    fn problem(&self, problem: &crate::base::Problem) {
        let text = match problem.message.contains(&problem.subject) {
            true => problem.message.clone(),
            false => format!("{}: {}", problem.subject, problem.message),
        };
        if !self.is_new(&text) || self.told.fetch_add(1, Ordering::Relaxed) >= MAX_TOLD {
            return;
        }
        self.tell("problem", &human::name(text.as_bytes()), Some(&problem.subject));
    }

    fn draw(&self, bar: &ProgressBar, event: &Event<'_>) {
        match event {
            Event::Phase(phase) => {
                bar.set_style(spinner());
                bar.reset();
                bar.set_prefix((*phase).to_owned());
                bar.set_message("");
                bar.enable_steady_tick(TICK);
                self.items.store(0, Ordering::Relaxed);
            }
            Event::Total { items, bytes, complete } => {
                self.all_items.store(*items, Ordering::Relaxed);
                if *complete && *bytes > 0 {
                    bar.set_style(measured());
                    bar.set_length(*bytes);
                }
            }
            Event::Done { items, bytes } => {
                self.items.fetch_add(*items, Ordering::Relaxed);
                bar.inc(*bytes);
                self.name(bar, "");
            }
            Event::Current(name) => self.name(bar, name),
            Event::Problem(_) | Event::Note(_) => {}
        }
    }

    fn name(&self, bar: &ProgressBar, name: &str) {
        let now = self.since_start.elapsed().as_millis() as u64;
        let last = self.named_at_ms.load(Ordering::Relaxed);
        if now < last + NAME_EVERY_MS
            || self.named_at_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let done = human::count(self.items.load(Ordering::Relaxed));
        bar.set_message(match self.stop.raised() {
            true => "stopping; press Ctrl-C again to stop at once".to_owned(),
            false => format!("{done} done  {}", human::name(name.as_bytes())),
        });
    }
}

impl Monitor for Look {
    fn event(&self, event: Event<'_>) {
        match &event {
            Event::Problem(problem) => self.problem(problem),
            Event::Note(note) => self.note(note),
            _ => {}
        }
        if let Some(bar) = &self.bar {
            self.draw(bar, &event);
        }
    }
}

fn spinner() -> ProgressStyle {
    let template = "{spinner} {prefix}  {bytes} at {binary_bytes_per_sec}  {wide_msg}";
    ProgressStyle::with_template(template).expect("a constant that the tests have seen")
}

fn measured() -> ProgressStyle {
    let template = "{prefix} {percent:>3} %  {bytes}/{total_bytes} at {binary_bytes_per_sec}, {eta} left  {wide_msg}";
    ProgressStyle::with_template(template).expect("a constant that the tests have seen")
}

/// From now on the first Ctrl-C (or TERM, or a terminal that went away) asks to stop: what is stored is kept. The
/// second ends the program at once; the repository is left whole by that too.
pub fn heed_signals(stop: &Stop) -> io::Result<()> {
    const INTERRUPTED: i32 = 130;
    // Once: registered twice, the first signal would count as the second.
    static HEEDED: AtomicBool = AtomicBool::new(false);
    if HEEDED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: at the first signal the flag is still down when the first of them looks at it.
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED, stop.flag())?;
        signal_hook::flag::register(signal, stop.flag())?;
    }
    Ok(())
}

/// Keys may lie in memory: no image of it is written to disk if the program crashes.
pub fn no_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Lowering a limit is always allowed; where the system has no such limit there is nothing to lower.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    // The limit does not hold where images are handed to a program; this does, and other processes of the same user
    // cannot look into the memory any more. Programs that are started get their own.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// As many files as this may be open at once if the system lets us: a restore from a bucket has some hundred under way, and
/// many systems begin with 1024 for all that a program opens.
const OPEN_FILES: u64 = 4096;

/// Raises what the system begins with; its own bound stays.
pub fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        // Where it is refused, what there is does for all but odd cases.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_may_be_open_as_far_as_the_system_allows_and_its_own_bound_stays() {
        use rustix::process::{Resource, getrlimit};
        let before = getrlimit(Resource::Nofile);
        open_many_files();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.maximum, before.maximum);
        let least = before.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
        assert!(after.current.is_none_or(|current| current >= least), "{before:?} {after:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nobody_takes_an_image_of_the_memory() {
        use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
        no_core_dumps();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }

    #[test]
    fn the_lines_of_progress_can_be_drawn() {
        let _ = (spinner(), measured());
    }
}
