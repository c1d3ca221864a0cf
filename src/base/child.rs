//! Starting other programs: dump clients, commands whose output is kept, commands that print a password.
//!
//! A child never inherits what opens the repository, and only what a user wrote inherits what opens databases and
//! buckets. It runs in a process group of its own, so that whoever stops it stops its children too; what it says on
//! standard error is read all the time and its end kept; and nobody who waits for it is deaf to [`Stop`].

use super::stop::{LOOK_EVERY, Stoppable};
use super::{MemoryFile, Stop};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

/// What opens a repository, or says how, and is no business of a child.
pub const SECRET_VARIABLES: [&str; 12] = [
    "KEEPSTONE_PASSWORD",
    "KEEPSTONE_PASSWORD_FILE",
    "KEEPSTONE_PASSWORD_COMMAND",
    "KEEPSTONE_KEY_FILE",
    "KEEPSTONE_KEY_COMMAND",
    "KEEPSTONE_IDENTITY_FILE",
    "KEEPSTONE_FROM_PASSWORD",
    "KEEPSTONE_FROM_PASSWORD_FILE",
    "KEEPSTONE_FROM_PASSWORD_COMMAND",
    "KEEPSTONE_FROM_KEY_FILE",
    "KEEPSTONE_FROM_KEY_COMMAND",
    "KEEPSTONE_FROM_IDENTITY_FILE",
];

/// What opens databases and buckets. Our own programs get what they need and no more; the commands of a user may count on it.
const SECRETS_OF_USERS: [&str; 4] = ["PGPASSWORD", "MYSQL_PWD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Further variables that hold a secret, as somebody has said.
static MORE_SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Held alone while a child is started that is given a file, so that no other child, started just then, inherits it.
static STARTING: RwLock<()> = RwLock::new(());

/// From now on no child inherits this variable: it holds a secret.
pub fn keep_from_children(variable: &str) {
    MORE_SECRETS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(variable.to_owned());
}

/// The end of a child's standard error that is kept.
pub const ERRORS_BYTES: usize = 4 << 10;

/// How many looks a child that was asked to end gets before it is killed: a second.
const GRACE_LOOKS: usize = 20;
/// How long a child that has ended may leave its standard error open. A daemon that it started, such as the master of
/// `ssh`, may hold it for ever.
const ERRORS_WITHIN: Duration = Duration::from_secs(1);

/// A program to start.
pub struct Program {
    command: Command,
    at_terminal: bool,
    file: Option<MemoryFile>,
}

impl Program {
    /// `program`, looked for in `PATH`, without arguments: its input is empty, its output a pipe.
    pub fn new(program: impl AsRef<OsStr>) -> Program {
        SECRETS_OF_USERS.iter().fold(Program::of_user(program), |program, name| program.without_env(name))
    }

    /// The same for a program that a user has named: it inherits the passwords for databases and buckets that the user has
    /// in the environment.
    pub fn of_user(program: impl AsRef<OsStr>) -> Program {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        SECRET_VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        for name in MORE_SECRETS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter() {
            command.env_remove(name);
        }
        Program { command, at_terminal: false, file: None }
    }

    /// What `sh -c` makes of `line`, which a user wrote.
    pub fn shell(line: impl AsRef<OsStr>) -> Program {
        Program::of_user("sh").arg("-c").arg(line)
    }

    /// With one more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Program {
        self.command.arg(argument);
        self
    }

    /// With more arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        self.command.args(arguments);
        self
    }

    /// With a variable in its environment, besides those it inherits.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Program {
        self.command.env(name, value);
        self
    }

    /// Without a variable that it would inherit.
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Program {
        self.command.env_remove(name);
        self
    }

    /// With a pipe as its input: see [`Child::take_input`].
    pub fn with_input(mut self) -> Program {
        self.command.stdin(Stdio::piped());
        self
    }

    /// With a file that it, and nobody else, can open under the name that [`MemoryFile::path`] says.
    pub fn with_file(mut self, file: &MemoryFile) -> Program {
        self.file = Some(file.clone());
        self
    }

    /// Sharing input, standard error and process group with us, so that it can ask the person at the terminal (a
    /// program of another group that reads a terminal is halted by the kernel). Its errors are shown, not kept.
    pub fn at_the_terminal(mut self) -> Program {
        self.command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
        self.at_terminal = true;
        self
    }

    /// Sharing standard error with us: its errors are shown, not kept.
    pub fn showing_errors(mut self) -> Program {
        self.command.stderr(Stdio::inherit());
        self
    }

    /// Starts it. `stop` ends every wait for it.
    pub fn start(mut self, stop: &Stop) -> io::Result<Child> {
        if !self.at_terminal {
            self.command.process_group(0);
        }
        let mut process = self.spawn()?;
        let output = process.stdout.take().map(|pipe| Stoppable::new(pipe, stop.clone()));
        let input = process.stdin.take();
        let said = process.stderr.take();
        // From here on a failure ends the child: `Child` does so when it is dropped.
        let mut child = Child {
            process,
            has_group: !self.at_terminal,
            over: false,
            input,
            output,
            errors: Errors::default(),
            stop: stop.clone(),
        };
        if let Some(said) = said {
            child.errors.listen_to(said)?;
        }
        Ok(child)
    }

    /// When this returns the child runs its program: what it was to inherit it has.
    fn spawn(&mut self) -> io::Result<std::process::Child> {
        let Some(file) = &self.file else {
            let _others_too = STARTING.read().unwrap_or_else(PoisonError::into_inner);
            return self.command.spawn();
        };
        let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        fcntl_setfd(file, FdFlags::empty())?;
        let process = self.command.spawn();
        fcntl_setfd(file, FdFlags::CLOEXEC)?;
        process
    }
}

/// A program that runs. Dropping it ends it and all that it started.
pub struct Child {
    process: std::process::Child,
    /// Whether it has a group of its own.
    has_group: bool,
    /// Whether it was waited for.
    over: bool,
    input: Option<ChildStdin>,
    output: Option<Output>,
    errors: Errors,
    stop: Stop,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// The end of what it said on standard error, at most [`ERRORS_BYTES`].
    pub errors: Vec<u8>,
    /// Whether we ended it because somebody asked to stop.
    pub stopped: bool,
}

impl Child {
    /// Where its input is written; once, and only of a program [`with_input`](Program::with_input). Dropping it ends
    /// the input.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// Its output; once.
    pub fn take_output(&mut self) -> Option<Output> {
        self.output.take()
    }

    /// Waits for its end. What of its input and output was not taken is closed first: a child that still writes then
    /// gets a broken pipe. If somebody asks to stop it is ended.
    pub fn finish(mut self) -> io::Result<Ended> {
        self.input = None;
        self.output = None;
        let mut stopped = false;
        // Most have ended by the time their output has: the first looks come quickly.
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            if self.stop.raised() {
                stopped = true;
                break self.end()?;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LOOK_EVERY);
        };
        self.over = true;
        Ok(Ended { status, errors: self.errors.tail(), stopped })
    }

    /// Ends it and all that it started: they are asked to (SIGTERM), and killed when it has ended or a second later.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if self.has_group {
            // Until it is waited for its number is its own and that of its group.
            let group = Pid::from_child(&self.process);
            let _ = kill_process_group(group, Signal::TERM);
            for _ in 0..GRACE_LOOKS {
                let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                match waitid(WaitId::Pid(group), look) {
                    Ok(None) => thread::sleep(LOOK_EVERY),
                    _ => break,
                }
            }
            let _ = kill_process_group(group, Signal::KILL);
        } else {
            // It may have ended by itself.
            let _ = self.process.kill();
        }
        let status = self.process.wait()?;
        self.over = true;
        Ok(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.end();
        }
    }
}

/// What a child prints. Reading ends with an error when somebody asks to stop; a child that prints nothing does not
/// keep the reader.
pub type Output = Stoppable<ChildStdout>;

/// The end of what a child says on standard error.
#[derive(Default)]
struct Errors {
    tail: Arc<Mutex<Vec<u8>>>,
    /// Hangs up when there is no more to come.
    ended: Option<Receiver<()>>,
}

impl Errors {
    fn listen_to(&mut self, mut said: ChildStderr) -> io::Result<()> {
        let (until, ended) = channel();
        let tail = self.tail.clone();
        self.ended = Some(ended);
        let listen = move || {
            let _until = until;
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = said.read(&mut piece) {
                keep_end(&mut lock(&tail), &piece[..length]);
            }
        };
        thread::Builder::new().name("errors".to_owned()).spawn(listen).map(drop)
    }

    /// What was said, once there is no more to come or [`ERRORS_WITHIN`] is over.
    fn tail(&self) -> Vec<u8> {
        if let Some(ended) = &self.ended {
            // Nothing is ever sent: it returns when the listener has gone, or too late.
            let _ = ended.recv_timeout(ERRORS_WITHIN);
        }
        lock(&self.tail).clone()
    }
}

fn lock(tail: &Mutex<Vec<u8>>) -> std::sync::MutexGuard<'_, Vec<u8>> {
    // Appending bytes cannot leave it half done.
    tail.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn keep_end(tail: &mut Vec<u8>, piece: &[u8]) {
    tail.extend_from_slice(piece);
    let excess = tail.len().saturating_sub(ERRORS_BYTES);
    tail.drain(..excess);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    fn start(line: &str) -> Child {
        Program::shell(line).start(&Stop::new()).unwrap()
    }

    fn text_of(child: &mut Child) -> String {
        let mut text = String::new();
        child.take_output().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Whether a process runs; one that nobody has waited for does not.
    fn runs(process: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|after| !after.is_empty() && !after.trim_start().starts_with('Z'))
    }

    #[test]
    fn a_child_is_read_to_its_end_and_its_status_and_last_words_are_kept() {
        let mut child = start("echo out; echo err >&2; exit 3");
        assert_eq!(text_of(&mut child), "out\n");
        let ended = child.finish().unwrap();
        assert_eq!((ended.status.code(), ended.stopped), (Some(3), false));
        assert_eq!(ended.errors, b"err\n");
    }

    #[test]
    fn only_the_end_of_many_words_is_kept_and_nobody_waits_for_them() {
        let mut child = start("i=0; while [ $i -lt 20000 ]; do echo word $i >&2; i=$((i+1)); done; echo done");
        assert_eq!(text_of(&mut child), "done\n");
        let errors = child.finish().unwrap().errors;
        assert_eq!(errors.len(), ERRORS_BYTES);
        assert!(errors.ends_with(b"word 19999\n"));
    }

    #[test]
    fn a_child_gets_its_arguments_its_input_and_its_environment() {
        let program = Program::new("sh").args(["-c", "cat; echo $1 $GIVEN $HOME", "name", "argument"]);
        let mut child = program.env("GIVEN", "value").without_env("HOME").with_input().start(&Stop::new()).unwrap();
        child.take_input().unwrap().write_all(b"input ").unwrap();
        assert_eq!(text_of(&mut child), "input argument value\n");
        assert!(child.finish().unwrap().status.success());
        assert_eq!(text_of(&mut start("cat")), "", "without one the input is empty");
    }

    #[test]
    fn no_child_inherits_what_opens_the_repository() {
        let program = Program::new("true");
        let removed: Vec<_> = program.command.get_envs().filter(|(_, value)| value.is_none()).collect();
        for name in SECRET_VARIABLES {
            assert!(removed.iter().any(|(removed, _)| *removed == name), "{name}");
        }
    }

    #[test]
    fn only_commands_of_a_user_inherit_passwords_of_databases_and_buckets() {
        let is_removed = |program: &Program, wanted: &str| {
            program.command.get_envs().any(|(name, value)| name == wanted && value.is_none())
        };
        for name in SECRETS_OF_USERS {
            assert!(is_removed(&Program::new("pg_dump"), name), "{name}");
            assert!(!is_removed(&Program::shell("pg_dump"), name) && !is_removed(&Program::of_user("pg_dump"), name));
        }
        assert!(is_removed(&Program::of_user("pg_dump"), SECRET_VARIABLES[0]));
    }

    #[test]
    fn no_child_inherits_a_variable_that_somebody_keeps_from_it() {
        keep_from_children("KEEPSTONE_TEST_SHOP_PASSWORD");
        let program = Program::new("true");
        let is_removed = |program: &Program| {
            let mut variables = program.command.get_envs();
            variables.any(|(name, value)| name == "KEEPSTONE_TEST_SHOP_PASSWORD" && value.is_none())
        };
        assert!(is_removed(&program));
        assert!(!is_removed(&program.env("KEEPSTONE_TEST_SHOP_PASSWORD", "x")), "what is given on purpose is given");
    }

    #[test]
    fn a_dropped_child_takes_its_children_with_it() {
        let mut child = start("sh -c 'trap \"\" TERM; echo $$; exec sleep 1000' & wait");
        let mut output = child.take_output().unwrap();
        let mut number = [0; 16];
        let length = output.read(&mut number).unwrap();
        let number = std::str::from_utf8(&number[..length]).unwrap();
        assert!(runs(number));
        drop(child);
        // It is killed; the kernel closes what it held a moment later.
        assert_eq!(output.read(&mut [0; 16]).unwrap(), 0);
        // What it held is closed a moment before it counts as ended.
        assert!((0..1_000_000).any(|_| !runs(number)), "{number} still runs");
    }

    #[test]
    fn who_waits_for_a_silent_child_hears_that_he_should_stop() {
        let stop = Stop::new();
        let mut child = Program::shell("exec sleep 1000").start(&stop).unwrap();
        let mut output = child.take_output().unwrap();
        let reader = thread::spawn(move || output.read(&mut [0; 16]).unwrap_err().kind());
        stop.raise();
        assert_eq!(reader.join().unwrap(), io::ErrorKind::Other);
        let ended = child.finish().unwrap();
        assert!(ended.stopped && ended.status.code().is_none());
    }

    #[test]
    fn a_daemon_that_keeps_standard_error_keeps_nobody() {
        let mut child = start("sleep 30 >/dev/null & echo $!; echo said >&2");
        let daemon = text_of(&mut child);
        let ended = child.finish().unwrap();
        assert!(ended.status.success());
        assert_eq!(ended.errors, b"said\n");
        assert!(runs(&daemon), "what a child leaves behind on purpose lives on");
        let daemon = Pid::from_raw(daemon.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(daemon, Signal::KILL).unwrap();
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = Program::new("keepstone-has-no-such-program").start(&Stop::new()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
