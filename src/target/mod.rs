//! Where bytes go back to.
