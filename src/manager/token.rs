//! The token by which Alertmanager shows that a message is its own: made once, kept in a Secret beside Alertmanager, known to
//! every replica. Must never show in logs, documents or the artifact.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    backoff::Steady,
    conditions::Finding,
    kinds::{MONITORING, SECRET},
    shared::Shared,
};
use crate::{
    Error, FIELD_MANAGER, Result,
    ports::kubernetes::{Cluster, objects::secret_text},
};

/// Secret in the namespace of monitoring.
pub const ALERTS: &str = "mctl-alerts";
/// Its key.
const KEY: &str = "token";
/// Bytes of a token before they are written as hexadecimal digits.
const LENGTH: usize = 32;
/// Condition that says whether it is kept.
const TYPE: &str = "AlertsAuthenticated";
/// How often it is looked at without cause.
const PERIOD: Duration = Duration::from_secs(60);
/// How often its namespace is looked for: Alertmanager cannot start before the Secret is there.
const SOON: Duration = Duration::from_secs(2);
/// Longest time for one look.
const LIMIT: Duration = Duration::from_secs(15);

/// A token. Debug never shows it.
#[derive(Clone)]
pub struct Token(Arc<Zeroizing<String>>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut bytes = Zeroizing::new([0_u8; LENGTH]);
        rustls::crypto::ring::default_provider()
            .secure_random
            .fill(bytes.as_mut())
            .map_err(|_| Error::failed("the system gives no random numbers"))?;
        Ok(Self(Arc::new(Zeroizing::new(hex::encode(*bytes)))))
    }

    /// The one in a Secret; one that is too short to be mctl's is none.
    pub fn of(secret: &DynamicObject) -> Option<Self> {
        let text = secret_text(secret, KEY).filter(|t| t.len() >= 2 * LENGTH)?;
        Some(Self(Arc::new(Zeroizing::new(text))))
    }

    /// Whether the value of an `Authorization` header is this token. How long that takes does not depend on the token.
    pub fn is(&self, header: &str) -> bool {
        let Some((scheme, given)) = header.split_once(' ') else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer")
            && Sha256::digest(given.trim()) == Sha256::digest(self.0.as_bytes())
    }

    /// The Secret for it.
    fn secret(&self) -> Result<DynamicObject> {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": ALERTS, "namespace": MONITORING,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER}},
            "stringData": {KEY: self.0.as_str()},
        }))
        .map_err(|e| Error::failed("the token's Secret cannot be formed").because(&e))
    }
}

/// Follows the token for ever; every replica receives messages.
pub async fn follow(client: Client, shared: &Shared) {
    let api: Api<DynamicObject> = Api::namespaced_with(client, MONITORING, &SECRET.resource());
    let config = watcher::Config::default().fields(&format!("metadata.name={ALERTS}"));
    let steady = Steady::new(Duration::from_millis(500), Duration::from_secs(5));
    let mut events = watcher(api, config).backoff(steady).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::InitApply(o) | watcher::Event::Apply(o)) => {
                shared.set_token(Token::of(&o));
            }
            Ok(watcher::Event::Delete(_)) => shared.set_token(None),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(e) => tracing::debug!(error = %e, "watch of the token"),
        }
    }
}

/// Keeps the token there until dropped; for the leader alone.
pub async fn keep(cluster: &Cluster, shared: &Shared) {
    let mut published = shared.published.subscribe();
    loop {
        let rendering = published.borrow_and_update().rendering.clone();
        let mut pause = PERIOD;
        if rendering.is_some_and(|r| r.monitoring) {
            let result = tokio::time::timeout(LIMIT, keep_once(cluster)).await;
            let finding = match result {
                Ok(Ok(())) => Finding::yes(TYPE, "Kept", "alerts need Alertmanager's token"),
                Ok(Err(e)) => {
                    pause = SOON;
                    Finding::no(TYPE, "Failed", e.line())
                }
                Err(_) => {
                    pause = SOON;
                    let why = format!("no success within {} s", LIMIT.as_secs());
                    Finding::no(TYPE, "Progressing", why)
                }
            };
            shared.note(finding, "token");
        } else {
            shared.forget("token");
        }
        tokio::select! {
            _ = published.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn keep_once(cluster: &Cluster) -> Result<()> {
    let found = cluster.get(&SECRET.gvk(), Some(MONITORING), ALERTS).await?;
    if found.as_ref().and_then(Token::of).is_none() {
        cluster.apply(&Token::new()?.secret()?, &()).await?;
        tracing::info!("made a token for Alertmanager");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_again_and_never_shown() {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let (one, other) = (Token::new().unwrap(), Token::new().unwrap());
        let text = one.0.to_string();
        assert_eq!(text.len(), 64);
        assert!(one.is(&format!("Bearer {text}")) && one.is(&format!("bearer {text}")));
        for bad in ["", "Bearer", "Bearer ", "Basic x"] {
            assert!(!one.is(bad), "{bad:?}");
        }
        assert!(!one.is(&text), "without its scheme");
        assert!(!other.is(&format!("Bearer {text}")));
        assert!(!format!("{one:?}").contains(&text));
        let mut secret = one.secret().unwrap();
        secret.data["data"] = json!({KEY: STANDARD.encode(&text)});
        assert!(Token::of(&secret).unwrap().is(&format!("Bearer {text}")));
        for short in ["", "abc"] {
            secret.data["data"] = json!({KEY: STANDARD.encode(short)});
            assert!(Token::of(&secret).is_none(), "{short:?}");
        }
    }
}
