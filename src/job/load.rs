//! How much else the machine has to do: priorities of the run, and gauges for its brake.

use super::databases;
use super::night::Night;
use crate::base::child::Program;
use crate::base::pace::{Gauge, Pace, Rules, Watch};
use crate::base::pressure::Pressure;
use crate::base::{Event, Monitor, Stop};
use crate::config::meant::{IoClass, Load};
use std::time::Duration;

/// Time between two looks at the gauges: PSI averages over ten seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Gives this process and all that it starts from now on the priorities that the profile says. What the system refuses is
/// told, and the run goes on.
pub fn ease(load: &Load, monitor: &dyn Monitor) {
    if let Some(nice) = load.nice
        && let Err(error) = crate::base::machine::be_nice(nice)
    {
        monitor.event(Event::Note(&format!("the run has its usual priority: nice {nice} was refused: {error}")));
    }
    if let Some(class) = load.ionice
        && let Err(why) = ionice(class)
    {
        monitor.event(Event::Note(&format!("the run has its usual priority for disks: {why}")));
    }
}

/// There is no safe call for it, so the program of util-linux does it to this very process. Threads and programs that are
/// started later inherit it.
fn ionice(class: IoClass) -> Result<(), String> {
    let words: &[&str] = match class {
        IoClass::Idle => &["-c", "3"],
        IoClass::Low => &["-c", "2", "-n", "7"],
    };
    let process = std::process::id().to_string();
    let program = Program::new("ionice").args(words).args(["-p", &process]);
    let ended = program.start(&Stop::new()).and_then(|child| child.finish());
    match ended {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => Err(format!("ionice: {}", String::from_utf8_lossy(&ended.errors).trim())),
        Err(error) => Err(format!("ionice cannot be run: {error}")),
    }
}

/// Watches what the profile has bounds for; none if it has none.
pub fn watch(night: &Night<'_>, pace: &Pace) -> Option<Watch> {
    let load = &night.profile.load;
    let monitor = &night.reach.monitor;
    let mut gauges = Vec::new();
    for (pressure, bound) in [(Pressure::Cpu, load.cpu), (Pressure::Memory, load.memory), (Pressure::Io, load.io)] {
        let Some(bound) = bound else { continue };
        let name = format!("the {} pressure in %", pressure.name());
        match pressure.read() {
            Some(_) => gauges.push(Gauge { name, bound, read: Box::new(move || pressure.read()) }),
            None => monitor.event(Event::Note(&format!(
                "{name} cannot be watched: this kernel has no /proc/pressure, so its bound does not hold"
            ))),
        }
    }
    if let Some(bound) = load.replication_lag {
        gauges.extend(databases::lag_gauges(night, bound));
    }
    if gauges.is_empty() {
        return None;
    }
    let rules = Rules { look_every: LOOK_EVERY, longest_pause: load.longest_pause };
    let watch = Watch::start(pace, gauges, rules, &night.reach.stop, monitor.clone());
    watch.inspect_err(|error| monitor.event(Event::Note(&format!("the load is not watched: {error}")))).ok()
}
