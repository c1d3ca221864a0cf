//! The way to the server: credentials, region, certificates, the form of addresses.
//!
//! Credentials are looked for as the AWS tools do it: environment, profile (keys, a role to assume, a command), web
//! identity, container, machine. Time limits are this room's own and not the SDK's, whose limit for an answer runs while
//! the body is still being sent: a pack on a slow line would never arrive.

use super::address::{Address, is_allowed};
use super::failure::innermost;
use super::settings::{Checksums, Settings};
use crate::base::Kind;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, ProvideCredentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_types::service_config::ServiceConfigKey;
use std::time::Duration;

/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

type Refused = (Kind, String);

/// A client with our certificates and no retries or time limits of its own.
pub(super) async fn client(address: &Address, settings: &Settings) -> Result<Client, Refused> {
    let shared = shared(settings).await?;
    let configured = if address.endpoint.is_none() { configured_endpoint(&shared) } else { None };
    if let Some(url) = configured.as_ref().filter(|url| !is_allowed(url, settings.plain_http)) {
        let reason = format!(
            "the environment or the profile names the endpoint {url}: plain http would show your requests to everybody \
             on the way; use https, or allow it with --allow-plain-http"
        );
        return Err((Kind::Refused, reason));
    }
    check_credentials(&shared).await?;
    Ok(Client::from_conf(config(address, settings, &shared, configured.is_some())))
}

async fn shared(settings: &Settings) -> Result<SdkConfig, Refused> {
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
    Ok(loader.load().await)
}

fn config(address: &Address, settings: &Settings, shared: &SdkConfig, elsewhere: bool) -> aws_sdk_s3::Config {
    let mut config = aws_sdk_s3::config::Builder::from(shared)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if shared.region().is_none() {
        config = config.region(Region::new("us-east-1"));
    }
    if let Some(endpoint) = &address.endpoint {
        config = config.endpoint_url(endpoint);
    }
    let amazon = address.endpoint.is_none() && !elsewhere;
    // The SDK's default checksums travel in trailers that many compatible stores refuse; what we store is authenticated
    // by its seal and named by its hash.
    let elsewhere = if amazon { Checksums::WhenSupported } else { Checksums::WhenRequired };
    let (request, response) = match settings.checksums.unwrap_or(elsewhere) {
        Checksums::WhenSupported => {
            (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
        }
        Checksums::WhenRequired => (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired),
    };
    config
        .force_path_style(settings.path_style.unwrap_or(!amazon))
        .request_checksum_calculation(request)
        .response_checksum_validation(response)
        .build()
}

/// An endpoint that the environment or the profile names.
fn configured_endpoint(shared: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("s3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_s3 = key.ok().and_then(|key| shared.service_config()?.load_config(key));
    of_s3.or_else(|| shared.endpoint_url().map(str::to_owned))
}

/// Without credentials every request fails, with words about whatever was looked at last.
async fn check_credentials(shared: &SdkConfig) -> Result<(), Refused> {
    let remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile in ~/.aws";
    let Some(provider) = shared.credentials_provider() else {
        return Err((Kind::Denied, format!("there are no credentials: {remedy}")));
    };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err((Kind::Denied, format!("there are no credentials ({}): {remedy}", innermost(&error)))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::Secret;
    use crate::store::s3::settings::Keys;
    use aws_sdk_s3::presigning::PresigningConfig;

    fn url(address: &str, settings: Settings) -> String {
        let keys = Keys { access: "key".to_owned(), secret: Secret::new(b"secret".to_vec()) };
        let settings = Settings { keys: Some(keys), region: Some("eu-central-1".to_owned()), ..settings };
        let address = Address::parse(address, false).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = client(&address, &settings).await.unwrap();
            let request = client.get_object().bucket(&address.bucket).key("x");
            let signed = request.presigned(PresigningConfig::expires_in(Duration::from_secs(60)).unwrap()).await;
            signed.unwrap().uri().split('?').next().unwrap().to_owned()
        })
    }

    #[test]
    fn the_bucket_stands_in_the_host_at_amazon_and_in_the_path_elsewhere_unless_said_otherwise() {
        let style = |path_style| Settings { path_style, ..Settings::default() };
        let elsewhere = "s3:https://store.example.org/vault";
        assert_eq!(url("s3://vault", style(None)), "https://vault.s3.eu-central-1.amazonaws.com/x");
        assert_eq!(url("s3://vault", style(Some(true))), "https://s3.eu-central-1.amazonaws.com/vault/x");
        assert_eq!(url(elsewhere, style(None)), "https://store.example.org/vault/x");
        assert_eq!(url(elsewhere, style(Some(false))), "https://vault.store.example.org/x");
    }
}
