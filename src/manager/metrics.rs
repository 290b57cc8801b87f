//! The manager's own metrics. Must not compute what they show.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{VERSION, config::Condition};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    namespace: String,
    name: String,
    r#type: String,
    status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkLabels {
    work: String,
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Work {
    work: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: String,
}

/// All of them.
pub struct Metrics {
    registry: Registry,
    leader: Gauge,
    conditions: Family<ConditionLabels, Gauge>,
    work: Family<WorkLabels, Counter>,
    took: Family<Work, Histogram>,
    drift: Counter,
    alerts: Counter,
    certificates: Counter,
    heartbeat: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("mctl");
        let build = Family::<Build, Gauge>::default();
        build
            .get_or_create(&Build {
                version: VERSION.to_owned(),
            })
            .set(1);
        registry.register("build_info", "Version of this executable", build);
        let leader = Gauge::default();
        registry.register("leader", "1 while this process leads", leader.clone());
        let conditions = Family::default();
        registry.register(
            "managementcluster_status_condition",
            "Conditions of the ManagementCluster, 1 for the status that holds",
            Family::clone(&conditions),
        );
        let work = Family::default();
        registry.register(
            "reconciliations",
            "Rounds of work by kind and result",
            Family::clone(&work),
        );
        let took: Family<Work, Histogram> = Family::new_with_constructor(|| {
            Histogram::new([0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0])
        });
        registry.register(
            "reconciliation_seconds",
            "Duration of rounds of work",
            took.clone(),
        );
        let drift = Counter::default();
        registry.register("drift", "Changes that Flux did not make", drift.clone());
        let alerts = Counter::default();
        registry.register(
            "alert_messages",
            "Messages from Alertmanager",
            alerts.clone(),
        );
        let certificates = Counter::default();
        registry.register(
            "certificates_issued",
            "Serving certificates issued",
            certificates.clone(),
        );
        let heartbeat = Gauge::<f64, AtomicU64>::default();
        registry.register(
            "heartbeat_timestamp_seconds",
            "When the always-firing alert last came",
            heartbeat.clone(),
        );
        Self {
            registry,
            leader,
            conditions,
            work,
            took,
            drift,
            alerts,
            certificates,
            heartbeat,
        }
    }
}

impl Metrics {
    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The conditions as just written.
    pub fn conditions(&self, namespace: &str, name: &str, conditions: &[Condition]) {
        self.conditions.clear();
        for c in conditions {
            for status in ["True", "False", "Unknown"] {
                self.conditions
                    .get_or_create(&ConditionLabels {
                        namespace: namespace.to_owned(),
                        name: name.to_owned(),
                        r#type: c.type_.clone(),
                        status: status.to_owned(),
                    })
                    .set(i64::from(c.status == status));
            }
        }
    }

    /// A round of work.
    pub fn round(&self, work: &str, ok: bool, took: Duration) {
        let result = if ok { "success" } else { "failure" };
        self.work
            .get_or_create(&WorkLabels {
                work: work.to_owned(),
                result: result.to_owned(),
            })
            .inc();
        self.took
            .get_or_create(&Work {
                work: work.to_owned(),
            })
            .observe(took.as_secs_f64());
    }

    /// A drifted object.
    pub fn drifted(&self) {
        self.drift.inc();
    }

    /// Certificates that were issued.
    pub fn issued(&self, number: usize) {
        self.certificates.inc_by(number as u64);
    }

    /// A message from Alertmanager, and when the heartbeat last came.
    pub fn alerted(&self, heartbeat: Option<jiff::Timestamp>) {
        self.alerts.inc();
        if let Some(t) = heartbeat {
            self.heartbeat.set(t.as_duration().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_show_as_the_alerts_expect() {
        let metrics = Metrics::default();
        let condition = Condition {
            type_: "Ready".into(),
            status: "False".into(),
            ..Condition::default()
        };
        metrics.conditions("giantswarm", "golem", &[condition]);
        metrics.round("seed", true, Duration::from_millis(3));
        let text = metrics.text();
        assert!(
            text.contains(
                r#"mctl_managementcluster_status_condition{namespace="giantswarm",name="golem",type="Ready",status="True"} 0"#
            ),
            "{text}"
        );
        assert!(
            text.contains(r#"mctl_reconciliations_total{work="seed",result="success"} 1"#),
            "{text}"
        );
    }
}
