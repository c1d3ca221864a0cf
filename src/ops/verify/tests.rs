//! Stories of verifying.
