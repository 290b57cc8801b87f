//! What Alertmanager has sent to this manager: the last word per alert name. Must not notify anyone.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Name of the alert that always fires while monitoring works.
pub const WATCHDOG: &str = "Watchdog";
/// Alert names kept; more are refused, so that a mad sender cannot fill the memory.
const LIMIT: usize = 1000;

/// Alertmanager's webhook message (version 4), as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Message {
    /// The alerts of one group.
    pub alerts: Vec<Alert>,
}

/// One alert of a message.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Alert {
    /// `firing` or `resolved`.
    pub status: String,
    /// Labels; `alertname` among them.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What was received under one alert name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// Alert name.
    pub name: String,
    /// `firing` if any alert of that name in the last message fires.
    pub status: String,
    /// When the last message came.
    pub last_received: Timestamp,
    /// Seconds since then by the manager's own clock, when the list was read.
    #[serde(default)]
    pub age_seconds: i64,
    /// Messages so far.
    pub count: u64,
    /// Severity label of the last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Summary or description annotation of the last message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// All that was received since the process started.
#[derive(Debug, Default)]
pub struct Inbox(Mutex<BTreeMap<String, Received>>);

impl Inbox {
    /// Takes a message in; returns how many alert names it named.
    pub fn receive(&self, message: &Message, now: Timestamp) -> usize {
        let mut firing: BTreeMap<&str, &Alert> = BTreeMap::new();
        for alert in &message.alerts {
            let Some(name) = alert.labels.get("alertname") else {
                continue;
            };
            let entry = firing.entry(name).or_insert(alert);
            if alert.status == "firing" {
                *entry = alert;
            }
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, alert) in &firing {
            let count = all.get(*name).map_or(0, |r| r.count);
            if count == 0 && all.len() >= LIMIT {
                continue;
            }
            let summary = alert
                .annotations
                .get("summary")
                .or_else(|| alert.annotations.get("description"))
                .map(|s| s.chars().take(300).collect());
            all.insert(
                (*name).to_owned(),
                Received {
                    name: (*name).to_owned(),
                    status: alert.status.clone(),
                    last_received: now,
                    age_seconds: 0,
                    count: count + 1,
                    severity: alert.labels.get("severity").cloned(),
                    summary,
                },
            );
        }
        firing.len()
    }

    /// Everything received, by name.
    pub fn list(&self, now: Timestamp) -> Vec<Received> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values()
            .map(|r| Received {
                age_seconds: now.duration_since(r.last_received).as_secs(),
                ..r.clone()
            })
            .collect()
    }

    /// When the heartbeat last came.
    pub fn heartbeat(&self) -> Option<Timestamp> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(WATCHDOG)
            .filter(|r| r.status == "firing")
            .map(|r| r.last_received)
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    fn message(text: &str) -> Message {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn keeps_the_last_word_per_name() {
        let inbox = Inbox::default();
        let t0: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(inbox.heartbeat(), None);
        let both = message(
            r#"{"version":"4","status":"firing","alerts":[
                {"status":"resolved","labels":{"alertname":"Down","severity":"page"}},
                {"status":"firing","labels":{"alertname":"Down","severity":"page"},"annotations":{"summary":"api is down"},"startsAt":"2026-01-01T00:00:00Z"},
                {"status":"resolved","labels":{"alertname":"Down"}},
                {"status":"firing","labels":{"alertname":"Watchdog"}},
                {"status":"firing","labels":{}}]}"#,
        );
        assert_eq!(inbox.receive(&both, t0), 2);
        assert_eq!(inbox.heartbeat(), Some(t0));
        let later = t0 + 90.seconds();
        inbox.receive(
            &message(r#"{"alerts":[{"status":"resolved","labels":{"alertname":"Down"}}]}"#),
            later,
        );
        let list = inbox.list(later + 5.seconds());
        assert_eq!(list[0].name, "Down");
        assert_eq!((list[0].status.as_str(), list[0].count), ("resolved", 2));
        assert_eq!(list[0].age_seconds, 5);
        assert_eq!(list[1].age_seconds, 95);
    }

    #[test]
    fn a_mad_sender_cannot_fill_the_memory() {
        let inbox = Inbox::default();
        let now = Timestamp::UNIX_EPOCH;
        for n in 0..LIMIT + 50 {
            let text =
                format!(r#"{{"alerts":[{{"status":"firing","labels":{{"alertname":"a{n}"}}}}]}}"#);
            inbox.receive(&message(&text), now);
        }
        assert_eq!(inbox.list(now).len(), LIMIT);
    }
}
