//! Tests of prune.
