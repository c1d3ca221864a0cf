//! A body that is sent no faster than a limit allows.
//!
//! It waits on the wire, between pieces: a pack that were sent at full speed and paid for afterwards would fill a slow
//! line for minutes.

use crate::store::throttle::Bucket;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sends what `inner` gives, at the speed of `bucket`.
pub(super) struct Paced {
    inner: SdkBody,
    bucket: Bucket,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    /// `body` at the speed of `bucket`.
    pub fn body(body: SdkBody, bucket: &Bucket) -> SdkBody {
        let bucket = bucket.clone();
        body.map(move |inner| SdkBody::from_body_1_x(Paced { inner, bucket: bucket.clone(), wait: None }))
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        let frame = ready!(Body::poll_frame(Pin::new(&mut self.inner), context));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            let length = self.bucket.take(bytes.len() as u64);
            self.wait = (!length.is_zero()).then(|| Box::pin(tokio::time::sleep(length)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.inner)
    }
}
