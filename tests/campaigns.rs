//! Long stories that chance writes: each prints its seed, and has a small size in every run and a large one with
//! `--long`. `docs/RELIABILITY.md` has their figures.

mod kills;
mod model;
mod power;
mod years;

/// How many: a few in every run, many when time is given for it.
fn rounds(few: u64, many: u64) -> u64 {
    if std::env::var_os("KEEPSTONE_LONG").is_some() { many } else { few }
}

/// Where to begin: `KEEPSTONE_SEED`, or 1.
fn first_seed() -> u64 {
    std::env::var("KEEPSTONE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// A seeded source of numbers below a bound.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}
