//! Several waits at once: work that mostly waits, done on a few threads for as long as there is some.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

/// Does `work` for each of `items`, on at most `lanes` threads, this one among them; answers in the order of the
/// items. One lane, or one item, starts no thread. Where no more threads can be had, fewer do it all.
pub fn side_by_side<I: Sync, O: Send>(lanes: usize, items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    if lanes <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, O)>> = Mutex::new(Vec::with_capacity(items.len()));
    let lane = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(place) else { return };
            let answer = work(item);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((place, answer));
        }
    };
    std::thread::scope(|scope| {
        for number in 1..lanes.min(items.len()) {
            if Builder::new().name(format!("lane-{number}")).spawn_scoped(scope, lane).is_err() {
                break;
            }
        }
        lane();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn all_lanes_work_at_once_and_answers_keep_their_order() {
        // Nobody passes the barrier before four are at it: with fewer lanes this would never end.
        let barrier = Barrier::new(4);
        let items: Vec<usize> = (0..8).collect();
        let answers = side_by_side(4, &items, |item| {
            barrier.wait();
            item * 10
        });
        assert_eq!(answers, (0..8).map(|item| item * 10).collect::<Vec<_>>());
    }

    #[test]
    fn one_lane_is_the_thread_that_asks() {
        let here = std::thread::current().id();
        let threads = side_by_side(1, &[1, 2, 3], |_| std::thread::current().id());
        assert!(threads.iter().all(|thread| *thread == here));
        assert!(side_by_side(8, &[] as &[u8], |_| ()).is_empty());
    }
}
