//! Things that must not be seen: keys and passphrases.

use std::fmt;
use zeroize::Zeroize;

/// Holds a secret, wipes it when dropped and prints as `Secret(…)`.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a secret into custody.
    pub fn new(secret: T) -> Secret<T> {
        Secret(secret)
    }

    /// Shows the secret. Each use is a place to look at in a review.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// Lets the secret be filled in place, so that no copy is left on the stack.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret<Vec<u8>> {
    fn from(text: String) -> Self {
        Secret::new(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
