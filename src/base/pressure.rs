//! How much tasks wait for processors, memory and disks, as the kernel says it (PSI, `/proc/pressure`).

use std::fs;

/// What tasks wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// Disks.
    Io,
}

impl Pressure {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Pressure::Cpu => "CPU",
            Pressure::Memory => "memory",
            Pressure::Io => "disk",
        }
    }

    /// The share of the last ten seconds in which some task waited, in percent; none where the kernel does not say.
    pub fn read(self) -> Option<f64> {
        let file = match self {
            Pressure::Cpu => "cpu",
            Pressure::Memory => "memory",
            Pressure::Io => "io",
        };
        some_avg10(&fs::read_to_string(format!("/proc/pressure/{file}")).ok()?)
    }
}

/// The line `some avg10=0.00 avg60=…` of a file in `/proc/pressure`.
fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = line.split(' ').find_map(|word| word.strip_prefix("avg10="))?.parse::<f64>().ok()?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_last_ten_seconds_is_read() {
        let text =
            "some avg10=12.34 avg60=5.00 avg300=1.00 total=12345\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(some_avg10(text), Some(12.34));
        for nonsense in ["", "full avg10=1.00", "some avg10=much", "some avg10=inf", "some avg60=1.00"] {
            assert_eq!(some_avg10(nonsense), None, "{nonsense}");
        }
    }
}
