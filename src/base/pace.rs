//! A brake: work slows down as the machine gets busy, and stands still while it has no room for it.
//!
//! Who does the work asks [`Pace::wait`] between two pieces of it; without a watch that costs nothing. A [`Watch`] looks at
//! its gauges every few seconds. The nearer one comes to its bound, the larger a share of the time until the next look the
//! brake is closed, in short slices: none of it up to four fifths of the bound, nine tenths of it right below. One that is
//! above its bound closes the brake whole, and it opens when all are well below theirs. No pause is longer than it may be,
//! and after such a one the work goes on for as long before the next: a machine that is never at rest still gets its backup.

use super::clock::Stopwatch;
use super::monitor::{Event, Monitor};
use super::stop::{LOOK_EVERY, Stop};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// What a gauge has to fall below before work goes on, as a share of its bound: a load that swings about its bound would
/// stop and go with every look. Above this work slows down.
const WELL_BELOW: f64 = 0.8;
/// The time between two looks is so many slices, each of which is work or rest.
const SLICES: u32 = 10;

/// Something that is measured and has a bound.
pub struct Gauge {
    /// What it is, with its unit: `CPU pressure in %`.
    pub name: String,
    /// Above this the work stands still.
    pub bound: f64,
    /// Measures it; none if it cannot be measured now, which holds nobody up.
    pub read: Box<dyn FnMut() -> Option<f64> + Send>,
}

/// How closely is watched, and how long work may stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Time between two looks.
    pub look_every: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
}

/// The brake, shared by all who work. One that nobody watches is always open.
#[derive(Clone, Debug, Default)]
pub struct Pace(Option<Arc<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    is_closed: AtomicBool,
    standing: Mutex<u64>,
    opened: Condvar,
    paused_ms: AtomicU64,
    pauses: AtomicU64,
}

impl Pace {
    /// A brake that somebody will watch.
    pub fn watched() -> Pace {
        Pace(Some(Arc::default()))
    }

    /// Stands still for as long as the brake is closed and nobody asks to stop.
    pub fn wait(&self, stop: &Stop) {
        let Some(shared) = self.0.as_ref().filter(|shared| shared.is_closed.load(Ordering::Relaxed)) else { return };
        let mut standing = shared.standing.lock().unwrap_or_else(PoisonError::into_inner);
        *standing += 1;
        while shared.is_closed.load(Ordering::Relaxed) && !stop.raised() {
            standing = shared.opened.wait_timeout(standing, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        *standing -= 1;
    }

    /// How many stand still now.
    pub fn standing(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| *shared.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For how long the brake was closed so far, in milliseconds.
    pub fn paused_ms(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.paused_ms.load(Ordering::Relaxed))
    }

    /// How often it was closed.
    pub fn pauses(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.pauses.load(Ordering::Relaxed))
    }

    fn close(&self, closed: bool) {
        let Some(shared) = &self.0 else { return };
        if !shared.is_closed.swap(closed, Ordering::SeqCst) && closed {
            shared.pauses.fetch_add(1, Ordering::Relaxed);
        }
        if !closed {
            shared.opened.notify_all();
        }
    }

    fn count(&self, paused: Duration) {
        if let Some(shared) = &self.0 {
            shared.paused_ms.fetch_add(u64::try_from(paused.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

/// What stands between gauges and brake: when it closes and when it opens. Times are since some beginning.
#[derive(Debug, Default)]
struct Brake {
    /// Since when it is closed whole.
    closed_at: Option<Duration>,
    /// Until then it stays open whatever the gauges say.
    open_until: Duration,
}

impl Brake {
    /// Takes what the gauges say, each with its bound; in how many slices of the time until the next look the brake is closed.
    fn look(&mut self, values: &[(f64, f64)], at: Duration, longest: Duration) -> u32 {
        match self.closed_at {
            None if at >= self.open_until && values.iter().any(|(value, bound)| value > bound) => {
                self.closed_at = Some(at);
            }
            None => {}
            Some(since) if at.saturating_sub(since) >= longest => {
                self.closed_at = None;
                self.open_until = at + longest;
            }
            Some(_) if values.iter().all(|(value, bound)| *value <= bound * WELL_BELOW) => self.closed_at = None,
            Some(_) => {}
        }
        match self.closed_at {
            Some(_) => SLICES,
            // The work's own turn, after a long pause.
            None if at < self.open_until => 0,
            None => values.iter().map(|(value, bound)| slow(value / bound)).max().unwrap_or(0),
        }
    }
}

/// In how many slices work rests when a gauge stands at such a share of its bound, which it does not pass.
fn slow(share: f64) -> u32 {
    let over = ((share - WELL_BELOW) / (1.0 - WELL_BELOW)).clamp(0.0, 1.0);
    // No number of a gauge is more than a few slices; one that makes no sense counts as none.
    (over * f64::from(SLICES - 1)).round() as u32
}

/// Whether work rests in this slice, of which `closed` do: spread, so that no rest is longer than it must be.
fn rests(slice: u32, closed: u32) -> bool {
    (slice + 1) * closed / SLICES > slice * closed / SLICES
}

/// Watches gauges on a thread of its own for as long as it lives; then the brake is open.
pub struct Watch {
    pace: Pace,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks once and begins to watch. That work stands still is told once.
    pub fn start(
        pace: &Pace,
        gauges: Vec<Gauge>,
        rules: Rules,
        stop: &Stop,
        monitor: Arc<dyn Monitor>,
    ) -> io::Result<Watch> {
        let stop = stop.child();
        let mut watcher = Watcher {
            pace: pace.clone(),
            gauges,
            rules,
            monitor,
            brake: Brake::default(),
            since: Stopwatch::start(),
            slice_at: Duration::ZERO,
            closed: 0,
            is_closed: false,
            told: false,
        };
        watcher.look();
        watcher.slice(0);
        let until = stop.clone();
        let watch = move || {
            while !until.raised() {
                for slice in 1..=SLICES {
                    until.rest(watcher.rules.look_every / SLICES);
                    if slice == SLICES {
                        watcher.look();
                    }
                    watcher.slice(slice % SLICES);
                }
            }
        };
        let thread = Builder::new().name("load".to_owned()).spawn(watch)?;
        Ok(Watch { pace: pace.clone(), stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            // It holds nothing that could be lost.
            let _ = thread.join();
        }
        self.pace.close(false);
    }
}

struct Watcher {
    pace: Pace,
    gauges: Vec<Gauge>,
    rules: Rules,
    monitor: Arc<dyn Monitor>,
    brake: Brake,
    since: Stopwatch,
    slice_at: Duration,
    /// In how many slices until the next look work rests.
    closed: u32,
    is_closed: bool,
    told: bool,
}

impl Watcher {
    fn look(&mut self) {
        let read = |gauge: &mut Gauge| Some(((gauge.read)()?, gauge.bound));
        let values: Vec<Option<(f64, f64)>> = self.gauges.iter_mut().map(read).collect();
        let known: Vec<(f64, f64)> = values.iter().flatten().copied().collect();
        self.closed = self.brake.look(&known, self.since.elapsed(), self.rules.longest_pause);
        if self.closed == SLICES && !self.told {
            self.tell(&values);
        }
    }

    /// Begins a slice.
    fn slice(&mut self, slice: u32) {
        let at = self.since.elapsed();
        if self.is_closed {
            self.pace.count(at.saturating_sub(self.slice_at));
        }
        self.slice_at = at;
        self.is_closed = rests(slice, self.closed);
        self.pace.close(self.is_closed);
    }

    fn tell(&mut self, values: &[Option<(f64, f64)>]) {
        self.told = true;
        let high = self.gauges.iter().zip(values).find_map(|(gauge, value)| {
            let (value, bound) = (*value)?;
            (value > bound).then(|| format!("{} is {value:.0}, above {bound:.0}", gauge.name))
        });
        let note = format!(
            "the machine is busy ({}): the run stands still until it is not, at most {} s at a time; this is told once",
            high.unwrap_or_default(),
            self.rules.longest_pause.as_secs()
        );
        self.monitor.event(Event::Note(&note));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::monitor::Remember;
    use super::*;

    const LONGEST: Duration = Duration::from_secs(100);

    /// What the brake does when one gauge with the bound 50 says these values, one a second.
    fn slices(values: &[f64]) -> Vec<u32> {
        let mut brake = Brake::default();
        let look = |(second, value): (u64, &f64)| brake.look(&[(*value, 50.0)], Duration::from_secs(second), LONGEST);
        (0..).zip(values).map(look).collect()
    }

    /// Whether it is closed whole.
    fn closed(values: &[f64]) -> Vec<bool> {
        slices(values).into_iter().map(|closed| closed == SLICES).collect()
    }

    #[test]
    fn the_nearer_a_gauge_comes_to_its_bound_the_slower_the_work() {
        assert_eq!(slices(&[0.0, 40.0, 41.0, 44.0, 46.0, 48.0, 50.0]), [0, 0, 1, 4, 5, 7, 9]);
        let mut brake = Brake::default();
        let two = [(44.0, 50.0), (97.0, 100.0)];
        assert_eq!(brake.look(&two, Duration::ZERO, LONGEST), 8, "the busiest counts");
        assert_eq!(brake.look(&[(f64::NAN, 50.0)], Duration::ZERO, LONGEST), 0);
        for closed in 0..=SLICES {
            let rest: Vec<bool> = (0..SLICES).map(|slice| rests(slice, closed)).collect();
            assert_eq!(rest.iter().filter(|rests| **rests).count(), closed as usize, "{closed}: {rest:?}");
            let longest = rest.split(|rests| !rests).map(<[bool]>::len).max().unwrap();
            assert!(closed > SLICES / 2 || longest <= 1, "short rests: {rest:?}");
        }
    }

    #[test]
    fn work_that_is_slowed_down_goes_on_between_its_rests() {
        let (pace, stop, monitor) = (Pace::watched(), Stop::new(), Arc::new(Remember::default()));
        let gauge = Gauge { name: "load".to_owned(), bound: 50.0, read: Box::new(|| Some(45.0)) };
        let rules = Rules { look_every: Duration::from_millis(10), longest_pause: Duration::from_secs(3600) };
        let watch = Watch::start(&pace, vec![gauge], rules, &stop, monitor.clone()).unwrap();
        // Nobody opens the brake but the next slice: who comes through three rests has worked between them.
        while pace.pauses() < 3 {
            pace.wait(&stop);
            std::thread::yield_now();
        }
        drop(watch);
        assert!(monitor.notes.lock().unwrap().is_empty(), "slower is not worth a note");
    }

    #[test]
    fn it_closes_above_the_bound_and_opens_well_below_it() {
        let said = closed(&[50.0, 51.0, 49.0, 41.0, 40.0, 49.0, 51.0]);
        assert_eq!(said, [false, true, true, true, false, false, true]);
    }

    #[test]
    fn what_cannot_be_measured_holds_nobody_up() {
        let mut brake = Brake::default();
        assert_eq!(brake.look(&[(60.0, 50.0)], Duration::ZERO, LONGEST), SLICES);
        assert_eq!(brake.look(&[], Duration::from_secs(1), LONGEST), 0);
    }

    #[test]
    fn no_pause_is_longer_than_it_may_be_and_work_follows_for_as_long() {
        let said = closed(&[60.0; 302]);
        let closed: Vec<usize> = (0..said.len()).filter(|second| said[*second]).collect();
        assert_eq!(closed, (0..100).chain(200..300).collect::<Vec<_>>());
    }

    #[test]
    fn who_works_stands_still_until_the_gauge_falls() {
        let (pace, stop, monitor) = (Pace::watched(), Stop::new(), Arc::new(Remember::default()));
        let look = pace.clone();
        // High until somebody stands still: whoever is slow, he is waited for.
        let read = Box::new(move || Some(if look.standing() == 0 { 90.0 } else { 10.0 }));
        let gauge = Gauge { name: "load".to_owned(), bound: 50.0, read };
        let rules = Rules { look_every: Duration::from_millis(1), longest_pause: Duration::from_secs(3600) };
        let watch = Watch::start(&pace, vec![gauge], rules, &stop, monitor.clone()).unwrap();
        pace.wait(&stop);
        assert!(pace.pauses() >= 1);
        drop(watch);
        pace.wait(&stop);
        let notes = monitor.notes.lock().unwrap();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("load is 90, above 50"), "{notes:?}");
    }

    #[test]
    fn who_stands_still_hears_that_he_should_stop() {
        let (pace, stop) = (Pace::watched(), Stop::new());
        pace.close(true);
        let (waiting, its_stop) = (pace.clone(), stop.clone());
        let thread = std::thread::spawn(move || waiting.wait(&its_stop));
        stop.raise();
        thread.join().unwrap();
        assert_eq!(pace.standing(), 0);
    }
}
