//! Objects in a bucket of an S3-compatible store.
//!
//! Names are the paths of the keys behind the address's prefix. Put-if-absent is `If-None-Match: *` (RFC 9110, 13.1.2);
//! a server that refuses the header is asked whether the object is there first, which `init` then finds out not to be
//! atomic. The SDK does not retry: `store::Retry` does, and uploads, whose bytes only this file has, do it here. Plain
//! functions outside, one runtime of the SDK's inside.

mod address;
mod failure;
mod upload;

pub use address::Address;

use super::retry::Tell;
use super::{Area, Error, Key, Listed, ObjectStore, Operation, Put, Retried, Upload, check_limit, check_range};
use crate::base::{Kind, Secret, Stop, Timestamp};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, ProvideCredentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Object, StorageClass};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use failure::Answer;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Until the first byte of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Until a whole request with its body is through.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1800);
/// Packs that are sent at once.
const UPLOADS: usize = 4;
/// Bytes that are taken from an answer before its length is believed.
const FIRST_BYTES: u64 = 1 << 20;

/// How the store is talked to.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The region; none for what the environment or the profile says, `us-east-1` if neither does.
    pub region: Option<String>,
    /// Certificates (PEM) of authorities to trust beside the system's.
    pub authorities: Option<PathBuf>,
    /// The storage class of packs, such as `STANDARD_IA`; everything else is kept in the bucket's own.
    pub pack_class: Option<String>,
    /// The keys; none for what the environment, the profile or the machine gives.
    pub keys: Option<Keys>,
    /// Where packs lie until they are complete; a folder on a disk with some hundred MB.
    pub spool: PathBuf,
}

/// An access key and its secret.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The name of the key.
    pub access: String,
    /// The secret, UTF-8.
    pub secret: Secret<Vec<u8>>,
}

/// A store in a bucket. Clones share it.
#[derive(Clone)]
pub struct S3 {
    place: Arc<Place>,
}

struct Place {
    address: Address,
    pack_class: Option<StorageClass>,
    spool: PathBuf,
    client: Client,
    runtime: Runtime,
    /// Set once the server turned out not to know `If-None-Match`.
    looks_first: AtomicBool,
    stop: Stop,
    tell: Arc<Tell>,
}

impl S3 {
    /// Readies the way to a bucket; the first request shows whether it leads there. `tell` hears of repeated uploads.
    pub fn open(
        address: Address,
        settings: &Settings,
        stop: Stop,
        tell: impl Fn(&Retried<'_>) + Send + Sync + 'static,
    ) -> Result<S3, Error> {
        let failed = |(kind, reason): (Kind, String)| Error::new(kind, "open", &address, reason);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|error| Error::new(Kind::Unavailable, "open", &address, error))?;
        let client = runtime.block_on(client(&address, settings)).map_err(failed)?;
        let pack_class = settings.pack_class.as_deref().map(StorageClass::from);
        let (spool, looks_first) = (settings.spool.clone(), AtomicBool::new(false));
        let tell = Arc::new(tell);
        Ok(S3 { place: Arc::new(Place { address, pack_class, spool, client, runtime, looks_first, stop, tell }) })
    }
}

/// A client with our certificates, our time limits and no retries of its own.
async fn client(address: &Address, settings: &Settings) -> Result<Client, (Kind, String)> {
    let mut trusted = TrustStore::default();
    if let Some(file) = &settings.authorities {
        let pem = std::fs::read(file);
        let pem = pem.map_err(|error| (Kind::Usage, format!("cannot read {}: {error}", file.display())))?;
        trusted = trusted.with_pem_certificate(pem);
    }
    let tls = TlsContext::builder().with_trust_store(trusted).build();
    let tls = tls.map_err(|error| (Kind::Usage, error.to_string()))?;
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(keys) = &settings.keys {
        let secret = String::from_utf8_lossy(keys.secret.expose()).into_owned();
        loader = loader.credentials_provider(Credentials::new(&keys.access, secret, None, None, "given"));
    }
    let shared = loader.load().await;
    check_credentials(&shared).await.map_err(|reason| (Kind::Denied, reason))?;
    let times = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(ANSWER_TIMEOUT)
        .operation_attempt_timeout(REQUEST_TIMEOUT)
        .build();
    let mut config =
        aws_sdk_s3::config::Builder::from(&shared).retry_config(RetryConfig::disabled()).timeout_config(times);
    if shared.region().is_none() {
        config = config.region(Region::new("us-east-1"));
    }
    if let Some(endpoint) = &address.endpoint {
        // The SDK's default checksums travel in trailers that many compatible stores refuse; what we store is
        // authenticated by its seal and named by its hash.
        config = config
            .endpoint_url(endpoint)
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    Ok(Client::from_conf(config.build()))
}

/// Without credentials every request fails, with words about whatever was looked at last.
async fn check_credentials(shared: &aws_config::SdkConfig) -> Result<(), String> {
    let remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile in ~/.aws";
    let Some(provider) = shared.credentials_provider() else {
        return Err(format!("there are no credentials: {remedy}"));
    };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("there are no credentials ({}): {remedy}", innermost(&error))),
    }
}

impl ObjectStore for S3 {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        self.place.put_if_absent(key, || Ok(ByteStream::from(bytes.to_vec())))
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(upload::S3Upload::begin(&self.place)?))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        let request = self.place.put_request(key).body(ByteStream::from(bytes.to_vec()));
        let answer = self.place.runtime.block_on(request.send());
        answer.map(drop).map_err(|error| self.place.failed(Operation::Replace, key, "s3:PutObject", &error))
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let place = &self.place;
        let request = place.client.get_object().bucket(&place.address.bucket).key(place.name_of(key));
        place.runtime.block_on(async {
            let answer = request.send().await;
            let answer = answer.map_err(|error| place.failed(Operation::Get, key, "s3:GetObject", &error))?;
            let size_bytes = place.length_of(key, &answer)?;
            check_limit(&place.subject(key), size_bytes, limit_bytes)?;
            place.body(key, answer, size_bytes).await
        })
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let place = &self.place;
        if length == 0 {
            // HTTP knows no empty range.
            check_range(&place.subject(key), self.size(key)?, offset, length)?;
            return Ok(Vec::new());
        }
        place.runtime.block_on(async {
            let answer = place.range(key, offset, length as u64).await?;
            place.body(key, answer, length as u64).await
        })
    }

    fn stream(&self, key: &Key, offset: u64, length: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let place = &self.place;
        if length == 0 {
            return Ok(());
        }
        place.runtime.block_on(async {
            let answer = place.range(key, offset, length).await?;
            place.pieces(key, answer, length, each).await
        })
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        let place = &self.place;
        let request = place.client.head_object().bucket(&place.address.bucket).key(place.name_of(key));
        let answer = place.runtime.block_on(request.send());
        let answer = answer.map_err(|error| place.failed(Operation::Size, key, "s3:GetObject", &error))?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        length.ok_or_else(|| place.odd(Operation::Size, key, "the answer has no length"))
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        let mut further = None;
        loop {
            further = self.place.list_page(area, further, each)?;
            if further.is_none() {
                return Ok(());
            }
        }
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        let place = &self.place;
        let request = place.client.delete_object().bucket(&place.address.bucket).key(place.name_of(key));
        match place.runtime.block_on(request.send()) {
            Ok(_) => Ok(()),
            Err(error) if answer_of(&error).kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(place.failed(Operation::Delete, key, "s3:DeleteObject", &error)),
        }
    }

    fn location(&self) -> String {
        self.place.address.to_string()
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn puts_at_once(&self) -> usize {
        UPLOADS
    }

    fn puts_are_atomic(&self) -> bool {
        !self.place.looks_first.load(Ordering::Relaxed)
    }
}

impl Place {
    /// The object's name in the bucket.
    fn name_of(&self, key: &Key) -> String {
        format!("{}{}", self.address.prefix, key.path())
    }

    /// The object in messages.
    fn subject(&self, key: &Key) -> String {
        format!("{}/{}", self.address, key.path())
    }

    fn failed<E>(&self, operation: Operation, key: &Key, right: &str, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = answer_of(error);
        Error::new(answer.kind(), operation.verb(), self.subject(key), answer.reason(right))
    }

    /// An answer that no server should give; another try may get a better one.
    fn odd(&self, operation: Operation, key: &Key, reason: &str) -> Error {
        Error::new(Kind::Unavailable, operation.verb(), self.subject(key), reason)
    }

    fn put_request(&self, key: &Key) -> PutObjectFluentBuilder {
        let request = self.client.put_object().bucket(&self.address.bucket).key(self.name_of(key));
        // Smaller and shorter-lived objects would cost more in a class for rare access.
        let class = self.pack_class.clone().filter(|_| key.area() == Area::Packs);
        request.set_storage_class(class).content_type("application/octet-stream")
    }

    /// Stores what `body` gives unless something is there. `body` may be asked twice.
    fn put_if_absent(&self, key: &Key, body: impl Fn() -> Result<ByteStream, Error>) -> Result<Put, Error> {
        let put = |conditional: bool| {
            let request = self.put_request(key).body(body()?);
            let request = if conditional { request.if_none_match("*") } else { request };
            Ok::<_, Error>(self.runtime.block_on(request.send()))
        };
        if !self.looks_first.load(Ordering::Relaxed) {
            match put(true)? {
                Ok(_) => return Ok(Put::Stored),
                Err(error) if answer_of(&error).says_exists() => return Ok(Put::Existed),
                Err(error) if answer_of(&error).says_unknown_condition() => {
                    self.looks_first.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(self.failed(Operation::Put, key, "s3:PutObject", &error)),
            }
        }
        if self.is_there(key)? {
            return Ok(Put::Existed);
        }
        let stored = put(false)?;
        stored.map(|_| Put::Stored).map_err(|error| self.failed(Operation::Put, key, "s3:PutObject", &error))
    }

    fn is_there(&self, key: &Key) -> Result<bool, Error> {
        let request = self.client.head_object().bucket(&self.address.bucket).key(self.name_of(key));
        match self.runtime.block_on(request.send()) {
            Ok(_) => Ok(true),
            Err(error) if answer_of(&error).kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(self.failed(Operation::Size, key, "s3:GetObject", &error)),
        }
    }

    fn length_of(&self, key: &Key, answer: &GetObjectOutput) -> Result<u64, Error> {
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        length.ok_or_else(|| self.odd(Operation::Get, key, "the answer has no length"))
    }

    /// The answer to a request for a range, which has its length.
    async fn range(&self, key: &Key, offset: u64, length: u64) -> Result<GetObjectOutput, Error> {
        let beyond = || {
            let reason = format_args!("{length} bytes at {offset} were asked for, but it is shorter");
            Error::new(Kind::Damaged, "read", self.subject(key), reason)
        };
        let last = offset.checked_add(length - 1).ok_or_else(beyond)?;
        let request = self.client.get_object().bucket(&self.address.bucket).key(self.name_of(key));
        let answer = match request.range(format!("bytes={offset}-{last}")).send().await {
            Ok(answer) => answer,
            Err(error) if answer_of(&error).says_beyond() => return Err(beyond()),
            Err(error) => return Err(self.failed(Operation::GetRange, key, "s3:GetObject", &error)),
        };
        if answer.content_range().and_then(whole_size).is_some_and(|size_bytes| last >= size_bytes) {
            return Err(beyond());
        }
        let came = self.length_of(key, &answer)?;
        if came != length {
            // A server without ranges sends the whole object, a damaged one something else.
            let reason = format_args!("{length} bytes were asked for and {came} are sent");
            return Err(Error::new(Kind::Damaged, "read", self.subject(key), reason));
        }
        Ok(answer)
    }

    /// The whole body of an answer, which has `size_bytes`.
    async fn body(&self, key: &Key, answer: GetObjectOutput, size_bytes: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(size_bytes.min(FIRST_BYTES) as usize);
        let mut take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            true
        };
        self.pieces(key, answer, size_bytes, &mut take).await?;
        Ok(bytes)
    }

    /// Hands on the body of an answer, which has `size_bytes`, piece by piece.
    async fn pieces(
        &self,
        key: &Key,
        answer: GetObjectOutput,
        size_bytes: u64,
        each: &mut (dyn FnMut(&[u8]) -> bool + '_),
    ) -> Result<(), Error> {
        let mut came = 0;
        let mut body = answer.body;
        while let Some(piece) = body.next().await {
            let piece =
                piece.map_err(|error| self.odd(Operation::Get, key, &format!("the answer broke off: {error}")))?;
            came += piece.len() as u64;
            if came > size_bytes {
                return Err(self.odd(Operation::Get, key, "more came than was announced"));
            }
            if !each(&piece) {
                return Ok(());
            }
        }
        match came == size_bytes {
            true => Ok(()),
            false => Err(self.odd(Operation::Get, key, &format!("{came} of {size_bytes} bytes came"))),
        }
    }

    /// One page of a listing; gives the mark of the next one.
    fn list_page(
        &self,
        area: Area,
        from: Option<String>,
        each: &mut dyn FnMut(Listed),
    ) -> Result<Option<String>, Error> {
        let folder = match area.folder() {
            "" => self.address.prefix.clone(),
            folder => format!("{}{folder}/", self.address.prefix),
        };
        let request = self.client.list_objects_v2().bucket(&self.address.bucket).prefix(&folder);
        // What lies in folders at the top belongs to other areas.
        let delimiter = area.folder().is_empty().then(|| "/".to_owned());
        let request = request.set_delimiter(delimiter).set_continuation_token(from);
        let page = self.runtime.block_on(request.send()).map_err(|error| {
            let answer = answer_of(&error);
            Error::new(
                answer.kind(),
                "list",
                format!("{}/{}", self.address, area.folder()),
                answer.reason("s3:ListBucket"),
            )
        })?;
        page.contents().iter().filter_map(|object| listed(area, &folder, object)).for_each(each);
        let further = page.is_truncated().unwrap_or(false);
        Ok(page.next_continuation_token.filter(|_| further))
    }
}

/// One line of a listing; none for what is no object of ours.
fn listed(area: Area, folder: &str, object: &Object) -> Option<Listed> {
    let path = object.key()?.strip_prefix(folder)?;
    let name = match area.fans_out() {
        true => {
            let (fan, name) = path.split_once('/')?;
            // A name in the wrong folder would not be found by `get` either.
            (name.get(..2).unwrap_or(name) == fan).then_some(name)?
        }
        false => path,
    };
    let stored_at = object.last_modified().and_then(|at| Timestamp::from_second(at.secs()).ok());
    Key::is_name(name).then(|| Listed {
        name: name.to_owned(),
        size_bytes: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        stored_at: stored_at.unwrap_or(Timestamp::UNIX_EPOCH),
    })
}

/// The size of the object in `bytes 0-9/1234`.
fn whole_size(content_range: &str) -> Option<u64> {
    content_range.rsplit_once('/')?.1.parse().ok()
}

/// What came back in a failure.
fn answer_of<E>(error: &SdkError<E>) -> Answer
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().map(str::to_owned);
    let message = match error {
        SdkError::ServiceError(service) => service.err().message().unwrap_or_default().to_owned(),
        other => innermost(other),
    };
    Answer { status, code, message }
}

/// The words of the innermost cause: the SDK's own only say that there was one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = inner.to_string();
        cause = inner.source();
    }
    words
}
