//! Index segments: written, read, merged.
