//! A body that is sent no faster than a limit allows.
//!
//! It waits on the wire, before each piece, until what went before has passed, whichever body that belonged to: a pack
//! that were sent at full speed and paid for afterwards would fill a slow line for minutes, and many small bodies one
//! after the other would never be slowed at all.

use crate::store::throttle::Bucket;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

/// What goes at once. Bodies that lie in memory come as one piece, however large they are.
const PIECE_BYTES: usize = 64 << 10;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sends what `inner` gives, at the speed of `bucket`.
pub(super) struct Paced {
    inner: SdkBody,
    bucket: Bucket,
    wait: Option<Pin<Box<Sleep>>>,
    /// What `inner` gave and is still to go.
    left: Bytes,
}

impl Paced {
    /// `body` at the speed of `bucket`.
    pub fn body(body: SdkBody, bucket: &Bucket) -> SdkBody {
        let bucket = bucket.clone();
        body.map(move |inner| SdkBody::from_body_1_x(Paced::new(inner, bucket.clone())))
    }

    fn new(inner: SdkBody, bucket: Bucket) -> Paced {
        Paced { inner, bucket, wait: None, left: Bytes::new() }
    }

    /// Ready when what was sent so far has passed.
    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(context));
                self.wait = None;
            }
            // Others may have sent in the meantime.
            let length = self.bucket.take(0);
            if length.is_zero() {
                return Poll::Ready(());
            }
            self.wait = Some(Box::pin(tokio::time::sleep(length)));
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        while self.left.is_empty() {
            let Some(frame) = ready!(Body::poll_frame(Pin::new(&mut self.inner), context)) else {
                return Poll::Ready(None);
            };
            match frame?.into_data() {
                Ok(bytes) => self.left = bytes,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        ready!(self.poll_passed(context));
        let length = self.left.len().min(PIECE_BYTES);
        self.bucket.take(length as u64);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, left) = (Body::size_hint(&self.inner), self.left.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + left);
        inner.upper().into_iter().for_each(|upper| hint.set_upper(upper + left));
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Waker;
    use std::time::Duration;

    /// How much of a body goes now; none if it waits.
    fn sent(body: &mut Paced) -> Option<usize> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(frame)) => frame.unwrap().into_data().ok().map(|bytes| bytes.len()),
            _ => None,
        }
    }

    #[test]
    fn every_body_waits_until_what_went_before_has_passed_and_goes_in_pieces() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let hand = Arc::new(AtomicU64::new(0));
        let seconds = hand.clone();
        let bucket = Bucket::new(PIECE_BYTES as u64, move || Duration::from_secs(seconds.load(Ordering::SeqCst)));
        let body = |length: usize| Paced::new(SdkBody::from(vec![7; length]), bucket.clone());
        let mut large = body(PIECE_BYTES + 100);
        assert_eq!(large.size_hint().exact(), Some(PIECE_BYTES as u64 + 100));
        assert_eq!(sent(&mut large), Some(PIECE_BYTES));
        assert_eq!(large.size_hint().exact(), Some(100));
        assert!(!large.is_end_stream());
        assert_eq!(sent(&mut large), None);
        assert_eq!(sent(&mut body(10)), None, "another body has to wait as well");
        hand.store(1, Ordering::SeqCst);
        assert_eq!(sent(&mut body(10)), Some(10));
        assert_eq!(sent(&mut body(0)), None);
    }
}
