//! The ground floor: names, kinds of failure, time, progress, stopping, memory budgets and secrets.
//!
//! Everything here is plain vocabulary that all other rooms share. Nothing in it knows a repository, a file
//! system tree of its own or a format; it does no I/O beyond opening directories, starting other programs and asking the
//! system for the time, for random bytes and who we are.

pub mod budget;
pub mod buffers;
pub mod child;
pub mod clock;
pub mod compact;
pub mod counted;
pub mod directory;
pub mod error;
pub mod ids;
pub mod like;
pub mod machine;
pub mod markup;
pub mod memory_file;
pub mod monitor;
pub mod pace;
pub mod pressure;
pub mod random;
pub mod scratch;
pub mod secret;
pub mod side_by_side;
pub mod stat;
pub mod stop;
pub mod xattrs;

pub use budget::Budget;
pub use buffers::Buffers;
pub use clock::{Clock, TimeZone, Timestamp};
pub use compact::{Bits, SortedMap, SortedSet};
pub use counted::counted;
pub use error::Kind;
pub use ids::*;
pub use like::like;
pub use machine::Machine;
pub use memory_file::MemoryFile;
pub use monitor::{Event, Monitor, Problem, Silent};
pub use pace::Pace;
pub use scratch::Scratch;
pub use secret::Secret;
pub use side_by_side::side_by_side;
pub use stat::Stat;
pub use stop::Stop;
