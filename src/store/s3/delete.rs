//! Many objects deleted with one request.
//!
//! S3 takes up to a thousand names at once. Servers that do not know how, or want the request in another way, refuse it
//! as a whole; then each object gets a request of its own, many of them at once, and what is wrong with it is said of it
//! alone.

use super::failure::{Answer, answer_of};
use super::place::{Asked, Place};
use crate::base::{Kind, side_by_side};
use crate::store::{Error, Key, Operation};
use aws_sdk_s3::operation::delete_objects::DeleteObjectsOutput;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// The most names of one request.
const MOST_KEYS: usize = 1000;
/// The right that it needs.
const RIGHT: &str = "s3:DeleteObject";

impl Place {
    pub fn delete(&self, key: &Key) -> Result<(), Error> {
        let request = self.client.delete_object().bucket(&self.address.bucket).key(self.name_of(key));
        match self.ask(Asked::Delete, 0, request.send()) {
            Ok(_) => Ok(()),
            Err(error) if answer_of(&error).kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(self.failed(Operation::Delete, key, RIGHT, &error)),
        }
    }

    /// Deletes many, `at_once` of them where each needs a request of its own.
    pub fn delete_each(&self, keys: &[Key], at_once: usize) -> Vec<Result<(), Error>> {
        let mut answers = Vec::with_capacity(keys.len());
        for batch in keys.chunks(MOST_KEYS) {
            let together = self.delete_together(batch);
            answers.extend(together.unwrap_or_else(|| side_by_side(at_once, batch, |key| self.delete(key))));
        }
        answers
    }

    /// Deletes all with one request; none if that is not how this server is asked.
    fn delete_together(&self, keys: &[Key]) -> Option<Vec<Result<(), Error>>> {
        if keys.len() < 2 || self.deletes_singly.load(Ordering::Relaxed) {
            return None;
        }
        let names: Option<Vec<ObjectIdentifier>> =
            keys.iter().map(|key| ObjectIdentifier::builder().key(self.name_of(key)).build().ok()).collect();
        let delete = Delete::builder().quiet(true).set_objects(names).build().ok()?;
        let request = self.client.delete_objects().bucket(&self.address.bucket).delete(delete);
        match self.ask(Asked::Delete, 0, request.send()) {
            Ok(answer) => Some(self.each_of(keys, &answer)),
            Err(error) if answer_of(&error).kind().is_transient() => {
                Some(keys.iter().map(|key| Err(self.failed(Operation::Delete, key, RIGHT, &error))).collect())
            }
            Err(_) => {
                self.deletes_singly.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    /// What became of each: the answer names only those that are still there.
    fn each_of(&self, keys: &[Key], answer: &DeleteObjectsOutput) -> Vec<Result<(), Error>> {
        let failed: HashMap<&str, _> = answer.errors().iter().filter_map(|error| Some((error.key()?, error))).collect();
        let one = |key: &Key| match failed.get(self.name_of(key).as_str()) {
            None => Ok(()),
            Some(error) if error.code() == Some("AccessDenied") => {
                let denied = Answer {
                    status: Some(403),
                    code: error.code().map(str::to_owned),
                    message: error.message().unwrap_or_default().to_owned(),
                    region: None,
                };
                let subject = self.subject(key);
                Err(Error::new(denied.kind(), Operation::Delete.verb(), subject, denied.reason(RIGHT)))
            }
            // What it really is shows when it is asked alone.
            Some(_) => self.delete(key),
        };
        keys.iter().map(one).collect()
    }
}
