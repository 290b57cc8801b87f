//! The way to a cluster's API server as the host sees it. Pure.

use std::net::Ipv4Addr;

/// Name that every API server's certificate holds, whatever its addresses are.
const SERVER_NAME: &str = "kubernetes";

/// Host and port of a kubeconfig's first server.
pub fn server(kubeconfig: &str) -> Option<(&str, u16)> {
    let line = kubeconfig.lines().find_map(server_of_line)?;
    let (host, port) = line.trim_end_matches('/').rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

fn server_of_line(line: &str) -> Option<&str> {
    line.trim_start()
        .strip_prefix("server:")?
        .trim()
        .trim_matches(['"', '\''])
        .strip_prefix("https://")
}

/// The kubeconfig with its server at another address; `None` if it is there already. The certificate does not know the new
/// address, so it is checked under a name that it always has.
pub fn follow(kubeconfig: &str, address: Ipv4Addr) -> Option<String> {
    let (host, port) = server(kubeconfig)?;
    if host.parse() == Ok(address) {
        return None;
    }
    let mut text = String::with_capacity(kubeconfig.len() + 64);
    for line in kubeconfig.lines() {
        // Written again with the server.
        if line.trim_start().starts_with("tls-server-name:") {
            continue;
        }
        if server_of_line(line).is_some() {
            let indent = &line[..line.len() - line.trim_start().len()];
            text.push_str(&format!(
                "{indent}server: https://{address}:{port}\n{indent}tls-server-name: {SERVER_NAME}\n"
            ));
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: QQ==\n    server: https://172.18.0.3:6443\n  name: golem\n";

    #[test]
    fn the_server_follows_the_load_balancer() {
        assert_eq!(server(TEXT), Some(("172.18.0.3", 6443)));
        assert_eq!(follow(TEXT, [172, 18, 0, 3].into()), None);
        let moved = follow(TEXT, [172, 18, 0, 9].into()).unwrap();
        assert!(moved.contains("    server: https://172.18.0.9:6443\n    tls-server-name: kubernetes\n  name: golem"), "{moved}");
        assert_eq!(follow(&moved, [172, 18, 0, 9].into()), None);
        let again = follow(&moved, [172, 18, 0, 4].into()).unwrap();
        assert_eq!(again.matches("tls-server-name").count(), 1, "{again}");
        assert_eq!(follow("nothing", [1, 2, 3, 4].into()), None);
    }
}
