//! Streams into chunks, with cut marks. Pure computation, no I/O.
