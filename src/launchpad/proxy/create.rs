//! What the proxy changes in a request that makes a container. Pure.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::launchpad::ADDRESS_LABEL;

/// Whether a request makes a container: `POST /v1.44/containers/create`, with or without a version.
pub fn is_create(method: &http::Method, path: &str) -> bool {
    method == http::Method::POST
        && path
            .strip_suffix("/containers/create")
            .is_some_and(|version| {
                version.is_empty()
                    || version.strip_prefix("/v").is_some_and(|v| {
                        !v.is_empty() && v.chars().all(|c| c.is_ascii_digit() || c == '.')
                    })
            })
}

/// Name that the container gets, from the request's query.
pub fn name(query: Option<&str>) -> Option<&str> {
    query?
        .split('&')
        .find_map(|pair| pair.strip_prefix("name="))
        .map(|name| name.trim_start_matches('/'))
        .filter(|name| !name.is_empty())
}

/// Whether the container is for this network and asks for no address of its own.
pub fn wants_address(body: &Value, network: &str) -> bool {
    let endpoint = &body["NetworkingConfig"]["EndpointsConfig"][network];
    let asked = endpoint["IPAMConfig"]["IPv4Address"]
        .as_str()
        .is_some_and(|a| !a.is_empty());
    !asked && on_network(body, network)
}

fn on_network(body: &Value, network: &str) -> bool {
    body["HostConfig"]["NetworkMode"] == network
        || body["NetworkingConfig"]["EndpointsConfig"]
            .get(network)
            .is_some()
}

/// Lets the container ask for an address, and remembers it in a label.
pub fn set_address(body: &mut Value, network: &str, address: Ipv4Addr) {
    let address = address.to_string();
    let endpoints = at(at(body, "NetworkingConfig"), "EndpointsConfig");
    at(at(endpoints, network), "IPAMConfig")["IPv4Address"] = json!(address);
    at(body, "Labels")[ADDRESS_LABEL] = json!(address);
}

/// Lets a container of the network come back whenever the engine starts. The provider asks for one restart after a failure,
/// so a load balancer that ended in good order would stay away. And it makes the load balancer read its file anew with
/// `kill --signal HUP`, which the engine takes for a stop by hand: `unless-stopped` would keep it away too.
pub fn set_restart(body: &mut Value, network: &str) -> bool {
    let policy = &body["HostConfig"]["RestartPolicy"];
    let weak = policy["Name"] == "on-failure" && policy["MaximumRetryCount"] == 1;
    if weak && on_network(body, network) {
        body["HostConfig"]["RestartPolicy"] = json!({"Name": "always", "MaximumRetryCount": 0});
    }
    weak
}

/// The object under a key, made if there is none.
fn at<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value[key].is_object() {
        value[key] = json!({});
    }
    &mut value[key]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Cluster API's Docker provider sends it, shortened.
    fn machine() -> Value {
        json!({
            "Hostname": "golem-x7k2p", "Labels": {"io.x-k8s.kind.cluster": "golem"}, "Image": "kindest/node:v1.36.1",
            "HostConfig": {
                "NetworkMode": "kind", "Privileged": true,
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1},
            },
            "NetworkingConfig": {"EndpointsConfig": null},
        })
    }

    #[test]
    fn only_making_a_container_is_recognised() {
        let post = http::Method::POST;
        for path in ["/containers/create", "/v1.44/containers/create"] {
            assert!(is_create(&post, path), "{path}");
            assert!(!is_create(&http::Method::GET, path), "{path}");
        }
        for path in [
            "/v1.44/containers/create/start",
            "/containers/x/containers/create",
            "/vx/containers/create",
            "/v/containers/create",
            "/images/create",
        ] {
            assert!(!is_create(&post, path), "{path}");
        }
        assert_eq!(name(Some("platform=&name=golem-lb")), Some("golem-lb"));
        assert_eq!(name(Some("name=")), None);
        assert_eq!(name(None), None);
    }

    #[test]
    fn a_machine_asks_for_its_address_and_comes_back_after_every_start() {
        let mut body = machine();
        assert!(wants_address(&body, "kind"));
        set_address(&mut body, "kind", [172, 18, 128, 7].into());
        assert!(set_restart(&mut body, "kind"));
        let endpoints = &body["NetworkingConfig"]["EndpointsConfig"];
        assert_eq!(
            endpoints["kind"]["IPAMConfig"]["IPv4Address"],
            "172.18.128.7"
        );
        assert_eq!(body["Labels"][ADDRESS_LABEL], "172.18.128.7");
        assert_eq!(body["Labels"]["io.x-k8s.kind.cluster"], "golem");
        assert_eq!(body["HostConfig"]["RestartPolicy"]["Name"], "always");
        assert_eq!(body["HostConfig"]["Privileged"], true);
        // It asks already.
        assert!(!wants_address(&body, "kind"));
    }

    #[test]
    fn what_is_already_said_and_what_is_elsewhere_stays() {
        let mut other = machine();
        other["HostConfig"]["NetworkMode"] = json!("bridge");
        let before = other.clone();
        assert!(!wants_address(&other, "kind"));
        set_restart(&mut other, "kind");
        assert_eq!(other, before);
        let mut own = machine();
        own["HostConfig"]["RestartPolicy"] = json!({"Name": "always"});
        assert!(!set_restart(&mut own, "kind"));
        let mut endpoint =
            json!({"NetworkingConfig": {"EndpointsConfig": {"kind": {"Aliases": ["a"]}}}});
        assert!(wants_address(&endpoint, "kind"));
        set_address(&mut endpoint, "kind", [10, 0, 0, 9].into());
        let kind = &endpoint["NetworkingConfig"]["EndpointsConfig"]["kind"];
        assert_eq!(kind["Aliases"], json!(["a"]));
        assert_eq!(kind["IPAMConfig"]["IPv4Address"], "10.0.0.9");
    }
}
