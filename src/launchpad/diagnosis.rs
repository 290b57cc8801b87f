//! Compares what a cluster's containers are with what its certificates, kubeconfigs and nodes hold of them, and names the command that mends a difference. Pure.

use std::net::Ipv4Addr;

use serde::Serialize;
use serde_json::Value;

use super::{ADDRESS_LABEL, NETWORK, addresses};
use crate::{Error, environment::Endpoint, verify::Check};

/// Label of kind and of Cluster API's Docker provider: what a container is.
const ROLE: &str = "io.x-k8s.kind.role";
/// Name of the check.
const CHECK: &str = "containers";

/// What a container does for its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Serves images.
    Registry,
    /// In front of the API servers.
    LoadBalancer,
    /// Machine with an API server.
    ControlPlane,
    /// Any other machine.
    Worker,
}

/// A container of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// `running`, `exited`, …
    pub status: String,
    /// Address on the network; none while it does not run.
    pub address: Option<Ipv4Addr>,
    /// Address that it asked for and comes back to.
    pub own: Option<Ipv4Addr>,
    /// Address it was made with.
    pub remembered: Option<Ipv4Addr>,
}

impl Container {
    /// Reads an inspected container.
    pub fn read(inspected: &Value, registry: &str) -> Self {
        let name = inspected["Name"].as_str().unwrap_or_default();
        let name = name.trim_start_matches('/').to_owned();
        let labels = &inspected["Config"]["Labels"];
        let role = match labels[ROLE].as_str() {
            _ if name == registry => Role::Registry,
            Some("external-load-balancer") => Role::LoadBalancer,
            Some("control-plane") => Role::ControlPlane,
            _ => Role::Worker,
        };
        let (address, own) = addresses::of(inspected, NETWORK);
        Self {
            name,
            role,
            status: inspected["State"]["Status"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            address,
            own,
            remembered: labels[ADDRESS_LABEL].as_str().and_then(|a| a.parse().ok()),
        }
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.status == "running"
    }
}

/// What is known of a cluster from its making.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of its registry's container.
    pub registry: String,
    /// Address of its API server, in every kubeconfig and certificate.
    pub endpoint: Option<Endpoint>,
}

/// Something that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was seen.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// What a look at a cluster's containers says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// What is broken.
    pub broken: Vec<Finding>,
    /// What works today and does not survive a restart of the engine.
    pub fragile: Option<Finding>,
    /// One line of evidence.
    pub evidence: String,
}

impl Diagnosis {
    /// Adds what is broken to an error that may come of it.
    pub fn explain(&self, error: Error) -> Error {
        self.broken.iter().fold(error, |error, finding| {
            error
                .because(finding.what.as_str())
                .fix(finding.fix.as_str())
        })
    }

    /// As a check with evidence.
    pub fn check(&self) -> Check {
        let all = |of: fn(&Finding) -> &str| {
            let mut texts: Vec<&str> = self.broken.iter().map(of).collect();
            texts.dedup();
            texts.join("; ")
        };
        match (&self.broken[..], &self.fragile) {
            ([], None) => Check::pass(CHECK, &self.evidence),
            ([], Some(fragile)) => Check::skip(CHECK, format!("{}; {}", fragile.what, fragile.fix)),
            _ => Check::fail(CHECK, all(|f| &f.what), all(|f| &f.fix)),
        }
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mut text = format!("  containers: {}\n", self.evidence);
        for finding in self.broken.iter().chain(&self.fragile) {
            text.push_str(&format!("    {}\n    fix: {}\n", finding.what, finding.fix));
        }
        text
    }
}

/// Compares.
pub fn diagnose(remembered: &Remembered, containers: &[Container]) -> Diagnosis {
    let cluster = &remembered.cluster;
    let start = format!("mctl start {cluster}");
    let mut broken = Vec::new();
    let mut find = |what: String, fix: &str| {
        broken.push(Finding {
            what,
            fix: fix.to_owned(),
        });
    };
    if !containers.iter().any(|c| c.role == Role::Registry) {
        let what = "no new or repaired machine gets an image";
        find(
            format!("container {} is gone: {what}", remembered.registry),
            &start,
        );
    }
    for c in containers.iter().filter(|c| !c.runs()) {
        find(format!("container {} is {}", c.name, c.status), &start);
    }
    let endpoint = remembered.endpoint.as_ref();
    let balancer = containers.iter().find(|c| c.role == Role::LoadBalancer);
    if let (Some(endpoint), None) = (endpoint, balancer) {
        let what = format!("the load balancer in front of {} is gone", endpoint.host);
        find(
            what,
            &format!(
                "Cluster API makes it again while an API server answers; else begin anew: mctl destroy {cluster}"
            ),
        );
    }
    let anew = format!(
        "the engine gave out other addresses when it started; a network with addresses of its own keeps them: \
         mctl destroy {cluster}, docker network rm {NETWORK}, then bootstrap again"
    );
    if let (Some(endpoint), Some((name, is))) =
        (endpoint, balancer.and_then(|b| Some((&b.name, b.address?))))
        && endpoint.host.parse::<Ipv4Addr>().is_ok_and(|was| was != is)
    {
        let what = "certificates, kubeconfigs and nodes have";
        find(
            format!("{name} has address {is}; {what} {}", endpoint.host),
            &anew,
        );
    }
    for c in containers {
        if let (Some(is), Some(was)) = (c.address, c.remembered.or(c.own))
            && is != was
        {
            let fix = format!(
                "docker stop {0} && docker network disconnect {NETWORK} {0} && docker network connect --ip {was} {NETWORK} {0} && {start}",
                c.name
            );
            find(
                format!("{} has address {is} and was made with {was}", c.name),
                &fix,
            );
        }
    }
    let passing: Vec<&str> = containers
        .iter()
        .filter(|c| c.own.is_none())
        .map(|c| c.name.as_str())
        .collect();
    let fragile = (!passing.is_empty()).then(|| Finding {
        what: format!(
            "{} of {} containers have an address that the engine gives out anew at each start ({}): the cluster does not survive a restart of the engine or the host",
            passing.len(),
            containers.len(),
            passing.join(", ")
        ),
        fix: format!(
            "network {NETWORK} has no subnet of its own, or they were made by another program; for a cluster that survives: \
             mctl destroy {cluster}, docker network rm {NETWORK}, then bootstrap again"
        ),
    });
    Diagnosis {
        evidence: format!(
            "{} of {} containers run, {} have an address of their own",
            containers.iter().filter(|c| c.runs()).count(),
            containers.len(),
            containers.len() - passing.len()
        ),
        broken,
        fragile,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(name: &str, role: &str, address: &str, own: &str) -> Container {
        let state = if address.is_empty() {
            "exited"
        } else {
            "running"
        };
        let inspected = json!({
            "Name": format!("/{name}"), "State": {"Status": state},
            "Config": {"Labels": {ROLE: role, ADDRESS_LABEL: own}},
            "NetworkSettings": {"Networks": {"kind": {"IPAddress": address, "IPAMConfig": {"IPv4Address": own}}}},
        });
        Container::read(&inspected, "mctl-golem-registry")
    }

    fn cluster(own: bool, shift: u8) -> Vec<Container> {
        let address = |n: u8| format!("172.18.128.{}", n + shift);
        let fixed = |n: u8| {
            if own {
                format!("172.18.128.{n}")
            } else {
                String::new()
            }
        };
        [
            ("mctl-golem-registry", ""),
            ("golem-lb", "external-load-balancer"),
            ("golem-abc", "control-plane"),
            ("golem-w", "worker"),
        ]
        .iter()
        .zip(1..)
        .map(|((name, role), n)| container(name, role, &address(n), &fixed(n)))
        .collect()
    }

    fn remembered() -> Remembered {
        Remembered {
            cluster: "golem".into(),
            registry: "mctl-golem-registry".into(),
            endpoint: Some(Endpoint {
                host: "172.18.128.2".into(),
                port: 6443,
            }),
        }
    }

    #[test]
    fn a_sound_cluster_has_nothing_to_mend() {
        let found = diagnose(&remembered(), &cluster(true, 0));
        assert_eq!((found.broken.len(), found.fragile), (0, None));
        assert_eq!(
            found.evidence,
            "4 of 4 containers run, 4 have an address of their own"
        );
        assert_eq!(cluster(true, 0)[1].role, Role::LoadBalancer);
    }

    #[test]
    fn what_passes_is_said_while_it_still_works() {
        let found = diagnose(&remembered(), &cluster(false, 0));
        assert!(found.broken.is_empty());
        let fragile = found.fragile.unwrap();
        assert!(
            fragile.what.contains("golem-lb") && fragile.fix.contains("docker network rm kind")
        );
    }

    #[test]
    fn other_addresses_are_named_with_what_they_were() {
        let found = diagnose(&remembered(), &cluster(false, 1));
        assert_eq!(found.broken.len(), 1, "{found:?}");
        assert!(
            found.broken[0].what.contains("172.18.128.3")
                && found.broken[0].what.contains("172.18.128.2")
        );
        let found = diagnose(&remembered(), &cluster(true, 1));
        assert_eq!(found.broken.len(), 5, "{found:?}");
        assert!(
            found.broken[1]
                .fix
                .contains("--ip 172.18.128.1 kind mctl-golem-registry")
        );
    }

    #[test]
    fn what_is_stopped_or_gone_is_named_with_the_command() {
        let mut all = cluster(true, 0);
        all[2] = container("golem-abc", "control-plane", "", "172.18.128.3");
        all.remove(0);
        let found = diagnose(&remembered(), &all);
        let what: Vec<&str> = found.broken.iter().map(|f| f.what.as_str()).collect();
        assert!(
            what[0].contains("mctl-golem-registry is gone")
                && what[1] == "container golem-abc is exited",
            "{what:?}"
        );
        assert!(found.broken.iter().all(|f| f.fix == "mctl start golem"));
        all.remove(0);
        let found = diagnose(&remembered(), &all);
        assert!(found.broken.iter().any(|f| {
            f.what
                .contains("load balancer in front of 172.18.128.2 is gone")
        }));
    }
}
