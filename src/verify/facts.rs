//! Reads everything that the checks look at, in parallel, each with a deadline. Changes nothing.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use kube::{Client, core::DynamicObject};
use serde_json::{Value, json};

use crate::{
    Error,
    catalog::Catalog,
    config::ManagementCluster,
    environment::Environment,
    manager::{
        alerts::Received,
        kinds::{
            CILIUM_NODE, CLUSTER, CONFIG_MAP, CUSTOMER_FLUX, DAEMON_SET, DEPLOYMENT, ENVIRONMENT,
            GIT_REPOSITORY, HELM_RELEASE, KUSTOMIZATION, Known, LEASE, MACHINE, MANAGEMENT_CLUSTER,
            MANAGER, NAMESPACE, NODE, OCI_REPOSITORY, ORGANIZATION, PLATFORM_FLUX, STATEFUL_SET,
        },
    },
    ports::kubernetes::{Cluster, short},
};

/// Longest time for one reading.
const LIMIT: Duration = Duration::from_secs(20);
/// Namespace in which a customer may make pods without asking anyone.
pub const CUSTOMER_NAMESPACE: &str = "default";
/// Prometheus' query interface, seen from the API server.
const PROMETHEUS: &str =
    "/api/v1/namespaces/monitoring/services/prometheus-k8s:web/proxy/api/v1/query?query=up";
/// The manager's list of alerts, seen from the API server.
pub const ALERTS: &str = "/api/v1/namespaces/giantswarm/services/mctl:8080/proxy/alerts";

/// Something read, or why it could not be.
pub type Read<T> = Result<T, String>;
/// A list; empty when the kind does not exist.
pub type List = Read<Vec<DynamicObject>>;

/// What became of a pod that was only asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It would have been made.
    Admitted,
    /// Refused; the message.
    Refused(String),
}

/// A measured target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Job label.
    pub job: String,
    /// Instance label.
    pub instance: String,
    /// Whether the last scrape worked.
    pub up: bool,
}

/// Everything read from the cluster.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When it was read.
    pub now: Timestamp,
    /// Nodes.
    pub nodes: List,
    /// Cluster API Clusters in the organization's namespace.
    pub clusters: List,
    /// Machines in the organization's namespace.
    pub machines: List,
    /// Flux objects of all four kinds in both namespaces.
    pub flux: List,
    /// Deployments of all namespaces.
    pub deployments: List,
    /// DaemonSets of all namespaces.
    pub daemon_sets: List,
    /// StatefulSets of all namespaces.
    pub stateful_sets: List,
    /// Cilium's nodes.
    pub cilium_nodes: List,
    /// A privileged pod in a customer's namespace.
    pub privileged: Read<Admission>,
    /// An unprivileged one.
    pub restricted: Read<Admission>,
    /// Targets of Prometheus.
    pub targets: Read<Vec<Target>>,
    /// Alerts that the manager received.
    pub alerts: Read<Vec<Received>>,
    /// The manager's lease.
    pub lease: Read<Option<DynamicObject>>,
    /// The document in the cluster.
    pub document: Read<Option<DynamicObject>>,
}

/// Reads all of it.
pub async fn gather(cluster: &Cluster, document: &ManagementCluster) -> Facts {
    let name = document.metadata.name.as_deref().unwrap_or_default();
    let organization = Some(ORGANIZATION);
    let (nodes, clusters, machines, flux, deployments, daemon_sets, stateful_sets) = tokio::join!(
        list(cluster, NODE, None),
        list(cluster, CLUSTER, organization),
        list(cluster, MACHINE, organization),
        flux(cluster),
        list(cluster, DEPLOYMENT, None),
        list(cluster, DAEMON_SET, None),
        list(cluster, STATEFUL_SET, None),
    );
    let (cilium_nodes, privileged, restricted, targets, alerts, lease, document) = tokio::join!(
        list(cluster, CILIUM_NODE, None),
        admission(cluster, true),
        admission(cluster, false),
        targets(cluster),
        alerts(cluster),
        one(cluster, LEASE, NAMESPACE, MANAGER),
        one(cluster, MANAGEMENT_CLUSTER, NAMESPACE, name),
    );
    Facts {
        now: Timestamp::now(),
        nodes,
        clusters,
        machines,
        flux,
        deployments,
        daemon_sets,
        stateful_sets,
        cilium_nodes,
        privileged,
        restricted,
        targets,
        alerts,
        lease,
        document,
    }
}

/// The catalog as the bootstrap used it: with the profile that the cluster's environment names.
pub async fn catalog(cluster: &Cluster) -> crate::Result<Catalog> {
    let catalog = Catalog::embedded()?;
    let found = cluster
        .get(&CONFIG_MAP.gvk(), Some(NAMESPACE), ENVIRONMENT)
        .await?;
    match found.as_ref().map(environment).transpose()? {
        Some(Environment {
            profile: Some(profile),
            ..
        }) => catalog.with_profile(&profile),
        _ => Ok(catalog),
    }
}

/// The environment in its ConfigMap. One that cannot be read is not the same as none: checks would be held against the
/// wrong catalog.
fn environment(object: &DynamicObject) -> crate::Result<Environment> {
    let error = |why: String| {
        Error::failed("the cluster's environment cannot be read")
            .at(format!("ConfigMap {NAMESPACE}/{ENVIRONMENT}"))
            .because(why)
            .fix("use the mctl of the version that bootstrapped the cluster, or put the ConfigMap back")
            .state("nothing was changed")
    };
    let text = object
        .data
        .pointer("/data/environment.json")
        .and_then(|v| v.as_str())
        .ok_or_else(|| error("it has no key environment.json".into()))?;
    serde_json::from_str(text).map_err(|e| error(e.to_string()))
}

async fn bounded<T>(what: &str, work: impl Future<Output = Read<T>>) -> Read<T> {
    tokio::time::timeout(LIMIT, work)
        .await
        .unwrap_or_else(|_| Err(format!("{what}: no answer within {} s", LIMIT.as_secs())))
}

async fn list(cluster: &Cluster, kind: Known, namespace: Option<&str>) -> List {
    bounded(kind.plural, async {
        cluster
            .list(&kind.gvk(), namespace, None)
            .await
            .map(Option::unwrap_or_default)
            .map_err(|e| e.line())
    })
    .await
}

async fn one(
    cluster: &Cluster,
    kind: Known,
    namespace: &str,
    name: &str,
) -> Read<Option<DynamicObject>> {
    bounded(name, async {
        cluster
            .get(&kind.gvk(), Some(namespace), name)
            .await
            .map_err(|e| e.line())
    })
    .await
}

async fn flux(cluster: &Cluster) -> List {
    let mut all = Vec::new();
    for namespace in [PLATFORM_FLUX, CUSTOMER_FLUX] {
        for kind in [OCI_REPOSITORY, GIT_REPOSITORY, KUSTOMIZATION, HELM_RELEASE] {
            all.extend(list(cluster, kind, Some(namespace)).await?);
        }
    }
    Ok(all)
}

/// Asks for a pod without making it.
async fn admission(cluster: &Cluster, privileged: bool) -> Read<Admission> {
    let security = if privileged {
        json!({"privileged": true})
    } else {
        json!({
            "privileged": false, "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        })
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "mctl-verify", "namespace": CUSTOMER_NAMESPACE},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10", "securityContext": security}],
        },
    });
    let path = format!("/api/v1/namespaces/{CUSTOMER_NAMESPACE}/pods?dryRun=All");
    bounded("asking for a pod", async {
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&pod).map_err(|e| e.to_string())?)
            .map_err(|e| e.to_string())?;
        match cluster.client().request_text(request).await {
            Ok(_) => Ok(Admission::Admitted),
            Err(kube::Error::Api(s)) if s.message.contains("denied the request") => {
                Ok(Admission::Refused(s.message.clone()))
            }
            Err(e) => Err(short(&e)),
        }
    })
    .await
}

/// GET through the API server's proxy.
pub async fn proxied(client: &Client, path: &str) -> Read<Value> {
    bounded(path, async {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|e| e.to_string())?;
        client.request(request).await.map_err(|e| short(&e))
    })
    .await
}

async fn targets(cluster: &Cluster) -> Read<Vec<Target>> {
    let answer = proxied(&cluster.client(), PROMETHEUS).await?;
    parse_targets(&answer).ok_or_else(|| format!("Prometheus answered {answer}"))
}

/// Result of the instant query `up`.
pub fn parse_targets(answer: &Value) -> Option<Vec<Target>> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let result = answer.pointer("/data/result")?.as_array()?;
    Some(
        result
            .iter()
            .map(|r| Target {
                job: text(&r["metric"]["job"]),
                instance: text(&r["metric"]["instance"]),
                up: r["value"][1] == "1",
            })
            .collect(),
    )
}

/// What the manager received from Alertmanager.
pub async fn alerts(cluster: &Cluster) -> Read<Vec<Received>> {
    let answer = proxied(&cluster.client(), ALERTS).await?;
    serde_json::from_value(answer).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_that_cannot_be_read_is_not_taken_for_none() {
        let object = |data: Value| -> DynamicObject {
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "mctl-environment"}, "data": data}))
            .unwrap()
        };
        for data in [
            json!({}),
            json!({"environment.json": "{"}),
            json!({"environment.json": "7"}),
        ] {
            let error = environment(&object(data)).unwrap_err().to_string();
            assert!(
                error.contains("fix:") && error.contains("state:"),
                "{error}"
            );
        }
        let good = json!({"environment.json": "{\"mirror\": \"x:1\"}"});
        assert_eq!(environment(&object(good)).unwrap().mirror, "x:1");
    }
}
