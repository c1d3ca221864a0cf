//! What the kernel says of this machine and its processes.

use std::fs;

/// Who we are: stands in sessions, snapshots and run records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The host's name.
    pub host: String,
    /// This process.
    pub process: u32,
    /// When it began, in the kernel's ticks since boot; 0 where the kernel does not say.
    pub process_began: u64,
    /// The id of this boot; empty where the kernel does not say.
    pub boot: String,
    /// This program and its version.
    pub program: String,
}

impl Machine {
    /// This process on this machine.
    pub fn this() -> Machine {
        let process = std::process::id();
        Machine {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            process,
            process_began: began(process).unwrap_or(0),
            boot: boot_id(),
            program: format!("keepstone {}", env!("CARGO_PKG_VERSION")),
        }
    }

    /// Whether we can know that a process described like this no longer runs: it was on this host and either in an
    /// earlier boot, or no process of its number began when it did.
    pub fn knows_dead(&self, host: &str, boot: &str, process: u32, process_began: u64) -> bool {
        if host != self.host || boot.is_empty() || self.boot.is_empty() || process_began == 0 {
            return false;
        }
        boot != self.boot || began(process) != Some(process_began)
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The user and the group that we act as.
pub fn acting_as() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// The most memory that this process has had at once, in bytes; none where the kernel does not say.
pub fn peak_memory_bytes() -> Option<u64> {
    peak_of(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The line `VmHWM` of `/proc/PID/status` (proc(5)), which counts in KiB.
fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Gives this thread, and all threads and programs that it starts from now on, a lower priority: from 0 to 19.
pub fn be_nice(nice: u8) -> std::io::Result<()> {
    Ok(rustix::process::setpriority_process(None, i32::from(nice.min(19)))?)
}

/// Field 22 of `/proc/PID/stat` (proc(5)); the fields before it follow the last `)` of the command's name.
fn began(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_memory_is_read_from_what_the_kernel_says() {
        assert_eq!(peak_of("Name:\tkeepstone\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(peak_of("VmHWM:\tmuch\n"), None);
        assert!(peak_memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_living_process_is_not_taken_for_dead() {
        let me = Machine::this();
        assert!(!me.knows_dead(&me.host, &me.boot, me.process, me.process_began));
        assert!(me.knows_dead(&me.host, &me.boot, me.process, me.process_began + 1));
        assert!(me.knows_dead(&me.host, "an earlier boot", me.process, me.process_began));
        assert!(!me.knows_dead("elsewhere", &me.boot, me.process, 1));
    }
}
