//! The vault: keyring, sessions, packs, index, trees, snapshots.
