//! The bytes of every object. No I/O: structs to bytes and back.
