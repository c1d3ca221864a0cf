//! Keys and seals: names, AES-SIV, key slots. Pure computation, no I/O.
