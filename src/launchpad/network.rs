//! The engine's network for machines, with a subnet of its own, so that containers can ask for addresses. Must not change a network that is there.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::Value;

use super::{NETWORK, addresses};
use crate::{
    Error, Kind, Result,
    config::Cidr,
    ports::{
        docker::Docker,
        process::{Command, Output},
    },
};

/// How many subnets are tried when the engine knows of others in use.
const TRIES: usize = 8;

/// The network as the engine has it.
pub async fn look(docker: &Docker) -> Result<Option<Value>> {
    docker.inspect("network", NETWORK).await
}

/// One line about a network, for people.
pub fn evidence(network: &Value) -> String {
    let subnets = addresses::subnets(std::slice::from_ref(network));
    let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    match addresses::Fixed::of(network) {
        Some(fixed) => format!(
            "network {NETWORK} {}, machines in {fixed}",
            subnets.join(", ")
        ),
        None => format!("network {NETWORK} {}", subnets.join(", ")),
    }
}

/// Makes the network; `used` are ranges that it must not overlap besides those of the engine's other networks.
pub async fn make(
    docker: &Docker,
    labels: &BTreeMap<String, String>,
    mut used: Vec<Cidr>,
) -> Result<()> {
    let names = docker.all("network").await?;
    let others = docker.inspect_all("network", &names).await?;
    used.extend(addresses::subnets(&others));
    let mtu = others
        .iter()
        .find(|n| n["Name"] == "bridge")
        .and_then(|n| n["Options"]["com.docker.network.driver.mtu"].as_str());
    let mut refused = String::new();
    for _ in 0..TRIES {
        let Some(subnet) = addresses::free_subnet(&used) else {
            break;
        };
        let command = Command::new("docker", arguments(subnet, mtu, labels));
        let out: Output = docker.run_command(command.clone()).await?;
        // Another process may have made it meanwhile; any network of that name serves.
        if out.code == 0 || out.stderr.contains("already exists") {
            return Ok(());
        }
        if !out.stderr.contains("overlap") {
            return out.success(&command).map(drop);
        }
        // On the engine's host, which may be another one, something is there that nobody told of.
        out.stderr.trim().clone_into(&mut refused);
        used.push(subnet);
    }
    let error = Error::new(Kind::Preflight, "no subnet is free for the machines' network")
        .state("the network was not made")
        .fix(format!("make it yourself in a range that is free: docker network create --subnet RANGE --ip-range LOWER-HALF {NETWORK}"));
    let ranges: Vec<String> = used.iter().map(ToString::to_string).collect();
    let error = error.because(format!("in use: {}", ranges.join(", ")));
    Err(if refused.is_empty() {
        error
    } else {
        error.because(refused)
    })
}

/// As kind makes it, but with a subnet, whose upper half the engine's pool leaves alone. IPv4 alone, as the machines.
fn arguments(subnet: Cidr, mtu: Option<&str>, labels: &BTreeMap<String, String>) -> Vec<String> {
    let gateway = Ipv4Addr::from(u32::from(subnet.first()) + 1);
    let mut args = vec![
        "network".to_owned(),
        "create".into(),
        "--driver=bridge".into(),
        "--opt=com.docker.network.bridge.enable_ip_masquerade=true".into(),
        format!("--subnet={subnet}"),
        format!("--gateway={gateway}"),
    ];
    if let Some((pool, _)) = subnet.halves() {
        args.push(format!("--ip-range={pool}"));
    }
    if let Some(mtu) = mtu {
        args.push(format!("--opt=com.docker.network.driver.mtu={mtu}"));
    }
    args.extend(labels.iter().map(|(k, v)| format!("--label={k}={v}")));
    args.push(NETWORK.to_owned());
    args
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::ports::process::{Processes, Writer};

    /// An engine with networks, which knows of one range in use that it does not show.
    struct Engine {
        networks: Value,
        hidden: &'static str,
        created: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Processes for Engine {
        async fn run(&self, command: &Command) -> Result<Output> {
            let args: Vec<&str> = command.args.iter().map(String::as_str).collect();
            let (code, stdout, stderr) = match args.as_slice() {
                ["network", "ls", ..] => (0, "bridge\nother\n".to_owned(), ""),
                ["network", "inspect", ..] => (0, self.networks.to_string(), ""),
                [_, "create", ..] => {
                    self.created.lock().unwrap().push(command.line());
                    if command.line().contains(self.hidden) {
                        (
                            1,
                            String::new(),
                            "Pool overlaps with other one on this address space",
                        )
                    } else {
                        (0, "1".into(), "")
                    }
                }
                other => panic!("{other:?}"),
            };
            Ok(Output {
                code,
                stdout,
                stderr: stderr.to_owned(),
            })
        }

        async fn feed(&self, _: &Command, _: Writer) -> Result<Output> {
            panic!("nothing is fed")
        }

        async fn settle(&self, _: &std::path::Path) -> Result<()> {
            Ok(())
        }

        fn end_all(&self) {}
    }

    fn engine(hidden: &'static str) -> Arc<Engine> {
        Arc::new(Engine {
            networks: json!([
                {"Name": "bridge", "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}, "Options": {"com.docker.network.driver.mtu": "1450"}},
                {"Name": "other", "IPAM": {"Config": [{"Subnet": "172.18.0.0/20"}]}},
            ]),
            hidden,
            created: Mutex::default(),
        })
    }

    #[tokio::test]
    async fn a_subnet_is_chosen_that_nobody_uses() {
        let engine = engine("172.20.0.0/16");
        let docker = Docker::new(engine.clone(), None);
        let labels = BTreeMap::from([("a/b".to_owned(), "golem".to_owned())]);
        let used = vec![Cidr::parse("172.19.0.0/16").unwrap()];
        make(&docker, &labels, used).await.unwrap();
        let created = engine.created.lock().unwrap();
        assert_eq!(created.len(), 2, "{created:?}");
        assert_eq!(
            created[1],
            "docker network create --driver=bridge --opt=com.docker.network.bridge.enable_ip_masquerade=true --subnet=172.21.0.0/16 \
             --gateway=172.21.0.1 --ip-range=172.21.0.0/17 --opt=com.docker.network.driver.mtu=1450 --label=a/b=golem kind"
        );
    }

    #[tokio::test]
    async fn when_nothing_is_free_the_ranges_are_named() {
        let engine = engine("--subnet");
        let docker = Docker::new(engine.clone(), None);
        let e = make(&docker, &BTreeMap::new(), Vec::new())
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(engine.created.lock().unwrap().len(), TRIES);
        for part in ["172.18.0.0/20", "Pool overlaps", "fix:", "state:"] {
            assert!(e.contains(part), "{e}");
        }
    }

    #[test]
    fn a_network_says_where_machines_are() {
        let ours =
            json!({"IPAM": {"Config": [{"Subnet": "172.18.0.0/16", "IPRange": "172.18.0.0/17"}]}});
        assert_eq!(
            evidence(&ours),
            "network kind 172.18.0.0/16, machines in 172.18.128.0/17"
        );
    }
}
