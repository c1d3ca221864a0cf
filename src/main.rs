//! The `keepstone` program: hands its arguments to the front door and ends with its exit code.

fn main() {}
