//! zstd frames, alone or on bases. Pure computation, no I/O.
