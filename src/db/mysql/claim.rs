//! A name that somebody works under, known to everybody at the server for as long as he lives.
//!
//! Whoever makes a database for a while takes the server's lock of that name first (`GET_LOCK`). It belongs to a session:
//! when that ends, because all is done or because its owner was killed, the lock is free.

use super::Session;
use super::quote::literal;
use crate::base::child::{Child, Output};
use crate::db::Result;
use std::io::{BufRead, BufReader, Write};
use std::process::ChildStdin;

/// Held for as long as this is.
pub struct Claim {
    _input: Option<ChildStdin>,
    _output: Option<BufReader<Output>>,
    /// The client program that is the session. It ends when its input does.
    _session: Child,
}

impl Claim {
    /// Takes the lock of `name`. A server that has no such locks, as some clusters do, is none: then whoever looks for what
    /// was left behind sees only who works in the database.
    pub fn of(name: &str, server: &Session) -> Result<Claim> {
        let program = server.client().args(["--batch", "--skip-column-names", "--unbuffered"]).with_input();
        let mut session = server.start(program)?;
        let mut input = session.take_input();
        let mut output = session.take_output().map(BufReader::new);
        let asked = input.as_mut().map(|input| writeln!(input, "SELECT GET_LOCK({}, 0);", literal(name)));
        if let (Some(Ok(())), Some(output)) = (asked, &mut output) {
            // Until the answer comes nobody knows of us. What it is makes no difference: a failure is none, see above.
            let _ = output.read_line(&mut String::new());
        }
        Ok(Claim { _input: input, _output: output, _session: session })
    }
}
