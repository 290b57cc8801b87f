//! Which addresses containers get, so that they keep them over restarts. Pure; must not talk to an engine.
//!
//! An engine gives out addresses in the order in which containers start, unless a container asks for one of its own. Those
//! of its own come from a part of the network that the engine's pool leaves alone, so nobody can take them first.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, str::FromStr};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Error, Kind, Result, config::Cidr};

/// Smallest part of a network that is worth dividing: some machines, their successors, a load balancer, a registry.
const SMALLEST: u32 = 26;

/// Part of a network whose addresses are given out by name, not by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed(Cidr);

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Fixed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Cidr::parse(text).map(Self).ok_or_else(|| {
            Error::new(Kind::Usage, format!("`{text}` is no range of addresses"))
                .fix("write one as 172.18.128.0/17")
                .state("nothing was changed")
        })
    }
}

impl Fixed {
    /// The part of an engine's network (as inspected) that can be given out by name.
    ///
    /// Outside the pool that the network's maker set, or, where none was set, the upper quarter: an engine's pool is given
    /// out from below. `None` when the network has no IPv4 subnet, or one too small to divide.
    pub fn of(network: &Value) -> Option<Self> {
        let config = network.pointer("/IPAM/Config")?.as_array()?;
        let (subnet, pool) = config.iter().find_map(|c| {
            let range = |key: &str| c[key].as_str().and_then(Cidr::parse);
            Some((range("Subnet")?, range("IPRange")))
        })?;
        let part = match pool.filter(|p| p.prefix() > subnet.prefix()) {
            Some(pool) => {
                let (lower, upper) = subnet.halves()?;
                if upper.overlaps(pool) { lower } else { upper }
            }
            None => subnet.halves()?.1.halves()?.1,
        };
        (part.prefix() <= SMALLEST).then_some(Self(part))
    }

    /// Whether an address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.0.contains(address)
    }

    /// A free address for a container: the same one for the same name as long as it is free, so that a container that is
    /// made again comes back where it was, and a new name does not come where another has just gone.
    pub fn pick(self, name: &str, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        // The ends may be the network's own address, its gateway or its broadcast address.
        let (first, last) = (u32::from(self.0.first()) + 2, u32::from(self.0.last()) - 1);
        let size = last.checked_sub(first)? + 1;
        let digest = Sha256::digest(name);
        let begin = digest[..4]
            .iter()
            .fold(0_u32, |n, b| (n << 8) | u32::from(*b))
            % size;
        (0..size)
            .map(|i| Ipv4Addr::from(first + (begin + i) % size))
            .find(|a| !taken.contains(a))
    }
}

/// Subnets for a network, in the order in which they are tried: what engines use themselves, then what few others do.
pub fn candidates() -> impl Iterator<Item = Cidr> {
    let docker = (18..=31).map(|b| format!("172.{b}.0.0/16"));
    let home = (0..=15).map(|b| format!("192.168.{}.0/20", b * 16));
    let large = (100..=127).map(|b| format!("10.{b}.0.0/16"));
    docker
        .chain(large)
        .chain(home)
        .filter_map(|text| Cidr::parse(&text))
}

/// The first of the [`candidates`] that overlaps nothing that is in use.
pub fn free_subnet(used: &[Cidr]) -> Option<Cidr> {
    candidates().find(|c| !used.iter().any(|u| u.overlaps(*c)))
}

/// IPv4 subnets of engine networks, as inspected.
pub fn subnets(networks: &[Value]) -> Vec<Cidr> {
    networks
        .iter()
        .filter_map(|n| n.pointer("/IPAM/Config")?.as_array())
        .flatten()
        .filter_map(|c| Cidr::parse(c["Subnet"].as_str()?))
        .collect()
}

/// Address that a container has on a network, and the one it asked for; both from its inspection or from a list.
pub fn of(container: &Value, network: &str) -> (Option<Ipv4Addr>, Option<Ipv4Addr>) {
    let endpoint = &container["NetworkSettings"]["Networks"][network];
    let read = |v: &Value| v.as_str().and_then(|a| a.parse().ok());
    (
        read(&endpoint["IPAddress"]),
        read(&endpoint["IPAMConfig"]["IPv4Address"]),
    )
}

/// All addresses of a network that containers have or come back to; containers as the engine lists or inspects them.
pub fn taken(containers: &[Value], network: &str) -> BTreeSet<Ipv4Addr> {
    containers
        .iter()
        .flat_map(|c| {
            let (has, asked) = of(c, network);
            let remembered = [&c["Labels"], &c["Config"]["Labels"]]
                .iter()
                .find_map(|l| l[super::ADDRESS_LABEL].as_str()?.parse().ok());
            [has, asked, remembered]
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn network(config: Value) -> Value {
        json!({"Name": "kind", "IPAM": {"Config": config}})
    }

    fn fixed(config: Value) -> Option<String> {
        Fixed::of(&network(config)).map(|f| f.to_string())
    }

    #[test]
    fn the_part_outside_the_pool_is_ours() {
        let v6 = json!({"Subnet": "fc00:f853:ccd:e793::/64"});
        let ours = json!([v6, {"Subnet": "172.18.0.0/16", "IPRange": "172.18.0.0/17", "Gateway": "172.18.0.1"}]);
        assert_eq!(fixed(ours).as_deref(), Some("172.18.128.0/17"));
        let upper = json!([{"Subnet": "10.0.0.0/24", "IPRange": "10.0.0.192/26"}]);
        assert_eq!(fixed(upper).as_deref(), Some("10.0.0.0/25"));
        let no_pool = json!([{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]);
        assert_eq!(fixed(no_pool).as_deref(), Some("172.18.192.0/18"));
        assert_eq!(fixed(json!([{"Subnet": "10.0.0.0/26"}])), None);
        assert_eq!(fixed(json!([{"Subnet": "10.0.0.0/32"}])), None);
        assert_eq!(fixed(json!([v6])), None);
        assert_eq!(fixed(json!([])), None);
        assert_eq!(Fixed::of(&json!({})), None);
    }

    #[test]
    fn a_name_comes_back_to_its_address_and_no_address_is_given_twice() {
        let range: Fixed = "172.18.128.0/26".parse().unwrap();
        let mut taken = BTreeSet::new();
        let first = range.pick("golem-lb", &taken).unwrap();
        assert_eq!(range.pick("golem-lb", &taken), Some(first));
        taken.insert(first);
        let moved = range.pick("golem-lb", &taken).unwrap();
        assert_ne!(moved, first);
        taken.clear();
        for i in 0..61 {
            let address = range.pick(&format!("machine-{i}"), &taken).unwrap();
            assert!(range.contains(address), "{address}");
            assert!(!address.octets()[3].is_multiple_of(64), "{address}");
            assert!(taken.insert(address), "{address} twice");
        }
        assert_eq!(range.pick("one more", &taken), None);
        assert!("golem".parse::<Fixed>().is_err());
    }

    #[test]
    fn a_free_subnet_overlaps_nothing_in_use() {
        let used =
            |all: &[&str]| -> Vec<Cidr> { all.iter().filter_map(|a| Cidr::parse(a)).collect() };
        assert_eq!(free_subnet(&[]).unwrap().to_string(), "172.18.0.0/16");
        let some = used(&["172.18.0.0/16", "172.19.4.0/24"]);
        assert_eq!(free_subnet(&some).unwrap().to_string(), "172.20.0.0/16");
        let vpn = used(&["172.16.0.0/12", "10.0.0.0/8"]);
        assert_eq!(free_subnet(&vpn).unwrap().to_string(), "192.168.0.0/20");
        assert_eq!(free_subnet(&used(&["0.0.0.0/0"])), None);
    }

    #[test]
    fn addresses_in_use_are_those_had_asked_for_and_remembered() {
        let all = [
            json!({"NetworkSettings": {"Networks": {"kind": {"IPAddress": "172.18.0.2", "IPAMConfig": null}}}}),
            json!({"NetworkSettings": {"Networks": {"kind": {"IPAddress": "", "IPAMConfig": {"IPv4Address": "172.18.128.9"}}}}}),
            json!({"NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}}}),
            json!({"Labels": {"io.giantswarm.mctl/address": "172.18.128.7"}}),
        ];
        let found: Vec<String> = taken(&all, "kind")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["172.18.0.2", "172.18.128.7", "172.18.128.9"]);
        assert_eq!(
            subnets(&[
                network(json!([{"Subnet": "172.18.0.0/16"}, {"Subnet": "fc00::/64"}])),
                json!({})
            ])
            .len(),
            1
        );
    }
}
