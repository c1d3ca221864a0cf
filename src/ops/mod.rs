//! The verbs: backup, restore, verify, forget, prune and the rest.
