//! Many at once on one repository: what `repo/session.rs` promises, tried.
//!
//! | file | what it does |
//! | --- | --- |
//! | `crowd` | many clients in an order that a seed decides, with faults, crashes, sleep and clocks that differ |
//! | `plans` | a few clients in an order that is written down, with one place left open that is tried everywhere |
//! | `mutations` | each rule broken in turn by a store that lies (`liar`): then it must show |
//! | `killed` | killed at any step while others are at work; stores that only look before they put |
//! | `pairs` | two at once at many moments, and the interleavings that have killed others |
//! | `judge` | what must hold in any of these worlds |
//! | `gate`, `scheduler`, `turns`, `hook` | how requests wait for their turn |

mod crowd;
mod gate;
pub mod hook;
mod judge;
mod killed;
mod liar;
mod mutations;
mod pairs;
mod plans;
mod scheduler;
mod turns;
