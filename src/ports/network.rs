//! The host's network: reaching an address, and which networks the host knows. Must not know what is at an address.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;

/// A network that the host has a route to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// First address.
    pub network: Ipv4Addr,
    /// Length of the prefix; 0 for the default route.
    pub prefix: u32,
    /// Interface that leads there.
    pub interface: String,
}

/// Reaches addresses.
#[async_trait]
pub trait Network: Send + Sync {
    /// Opens a TCP connection within the limit and closes it again.
    async fn reach(&self, address: SocketAddr, limit: Duration) -> io::Result<()>;

    /// The host's IPv4 routes.
    fn routes(&self) -> io::Result<Vec<Route>>;
}

/// The host's own network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

#[async_trait]
impl Network for Host {
    async fn reach(&self, address: SocketAddr, limit: Duration) -> io::Result<()> {
        let connection = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(limit, connection).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {} s", limit.as_secs()),
            )),
        }
    }

    fn routes(&self) -> io::Result<Vec<Route>> {
        Ok(parse(&std::fs::read_to_string("/proc/net/route")?))
    }
}

/// Lines of `/proc/net/route`: interface, destination, gateway, flags, three counters, mask; addresses in the host's byte order.
fn parse(table: &str) -> Vec<Route> {
    let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::from_be);
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let interface = fields.next()?.to_owned();
            let network = Ipv4Addr::from(address(fields.next()?)?);
            let mask = address(fields.nth(5)?)?;
            Some(Route {
                network,
                prefix: mask.leading_ones(),
                interface,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            br0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let routes = parse(table);
        assert_eq!(routes[0].prefix, 0);
        assert_eq!(routes[1].network, Ipv4Addr::new(172, 18, 0, 0));
        assert_eq!(
            (routes[1].prefix, routes[1].interface.as_str()),
            (16, "br0")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_is_given_up_at_the_limit() {
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(Host.reach(closed, Duration::from_secs(1)).await.is_err());
    }
}
