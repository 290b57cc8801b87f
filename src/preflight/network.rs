//! Judgement of address ranges: none may mean two things for a machine. Must be pure.

use super::{
    Finding, Verdict,
    facts::{Facts, Unknown},
    on,
};
use crate::config::Cidr;

/// The network of machines.
const MACHINES: &str = "kind";
/// From here engines take the ranges of networks that are made without one.
const POOL: &str = "172.16.0.0/12";
/// Ranges of the temporary cluster, which are kind's own.
const TEMPORARY: [(&str, &str); 2] = [("services", "10.96.0.0/16"), ("pods", "10.244.0.0/16")];

/// Ranges that the document chooses, with their fields.
fn chosen(facts: &Facts) -> [(&'static str, Cidr); 2] {
    [
        ("podCidr", facts.wanted.pods),
        ("serviceCidr", facts.wanted.services),
    ]
}

/// Ranges of the engine's networks by name, or why they are not known.
fn networks(facts: &Facts) -> Result<Vec<(&str, Cidr)>, Unknown> {
    match facts.engine.answer.as_ref().map(|e| &e.networks) {
        Ok(Some(Ok(all))) => Ok(all
            .iter()
            .flat_map(|(name, ranges)| ranges.iter().map(|r| (name.as_str(), *r)))
            .collect()),
        Ok(Some(Err(why))) => Err(why.clone()),
        Ok(None) => Err(super::engine::not_told()),
        Err(_) => Err(Unknown::new("no engine answers")),
    }
}

/// What programs on machines reach directly: pods, services, machines.
pub(super) fn ranges_of_the_cluster(facts: &Facts) -> Vec<Cidr> {
    let machines = networks(facts).unwrap_or_default();
    let machines = machines.into_iter().filter(|(name, _)| *name == MACHINES);
    let own = chosen(facts).into_iter().map(|(_, range)| range);
    machines.map(|(_, range)| range).chain(own).collect()
}

/// The worst of what was found, with everything that was found.
fn sum_up(on: super::On, good: &str, found: Vec<(Verdict, String)>, fix: &str) -> Finding {
    let Some(worst) = found.iter().map(|(verdict, _)| *verdict).max() else {
        return on.good(good, "");
    };
    let what = if worst == Verdict::Bad {
        "address ranges overlap: machines could not reach one of them"
    } else {
        "address ranges overlap: part of what is outside may not be reached"
    };
    let all: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
    on.finding(worst, what, all.join("; "), fix)
}

/// Pods and services against each other; the document's own check refuses it earlier.
pub(super) fn each_other(facts: &Facts) -> Finding {
    let on = on("ranges", "spec.network");
    let [(_, pods), (_, services)] = chosen(facts);
    if pods.overlaps(services) {
        on.bad(
            "pods and services have addresses in common",
            format!("{pods} and {services}"),
            "choose two ranges that have no address in common",
        )
    } else {
        on.good(
            "pods and services have ranges of their own",
            format!("{pods}, {services}"),
        )
    }
}

/// Against the engine's networks.
pub(super) fn engine(facts: &Facts) -> Finding {
    let on = on("ranges-engine", "spec.network");
    let networks = match networks(facts) {
        Ok(networks) => networks,
        Err(why) => return on.unknown("which ranges the engine's networks have", &why),
    };
    let mut found = Vec::new();
    for (field, range) in chosen(facts) {
        for (name, other) in networks.iter().filter(|(_, r)| r.overlaps(range)) {
            // Other bridges are not routed to machines, so that only their own addresses are lost.
            let verdict = if *name == MACHINES {
                Verdict::Bad
            } else {
                Verdict::Tight
            };
            let whose = if *name == MACHINES {
                ", where machines are"
            } else {
                ""
            };
            found.push((
                verdict,
                format!(
                    "{field} {range} overlaps with the engine's network `{name}`, {other}{whose}"
                ),
            ));
        }
        let made = networks.iter().any(|(name, _)| *name == MACHINES);
        if !made && Cidr::parse(POOL).is_some_and(|pool| pool.overlaps(range)) {
            found.push((
                Verdict::Tight,
                format!("{field} {range} lies in {POOL}, from where the engine gives `{MACHINES}` its addresses"),
            ));
        }
    }
    sum_up(
        on,
        "no range is one of the engine's networks",
        found,
        "choose another range in spec.network, such as 100.64.0.0/16 for pods and 100.80.0.0/16 for services",
    )
}

/// Against what the host reaches: a name server in such a range is lost to all machines.
pub(super) fn host(facts: &Facts) -> Finding {
    let on = on("ranges-host", "spec.network");
    let found = match overlaps_with_routes(facts, &chosen(facts)) {
        Ok(found) => found,
        Err(why) => return on.unknown("which routes the host has", &why),
    };
    sum_up(
        on,
        "the host's routes and name servers are in no range",
        found,
        "choose another range in spec.network, such as 100.64.0.0/16 for pods and 100.80.0.0/16 for services",
    )
}

/// The temporary cluster has ranges that nobody chooses.
pub(super) fn temporary(facts: &Facts) -> Finding {
    let on = on("ranges-temporary", "the temporary cluster");
    let ranges: Vec<(&'static str, Cidr)> = TEMPORARY
        .iter()
        .filter_map(|(what, range)| Some((*what, Cidr::parse(range)?)))
        .collect();
    let mut found = match overlaps_with_routes(facts, &ranges) {
        Ok(found) => found,
        Err(why) => return on.unknown("which routes the host has", &why),
    };
    for (name, other) in networks(facts).unwrap_or_default() {
        for (what, range) in ranges.iter().filter(|(_, r)| r.overlaps(other)) {
            let verdict = if name == MACHINES {
                Verdict::Bad
            } else {
                Verdict::Tight
            };
            found.push((
                verdict,
                format!("its {what}, {range}, overlap with the engine's network `{name}`, {other}"),
            ));
        }
    }
    sum_up(
        on,
        "the temporary cluster's own ranges are free",
        found,
        "kind's ranges cannot be chosen: remove the route for the time of the bootstrap, or give the engine's networks other addresses (default-address-pools)",
    )
}

/// A name server inside is bad, other addresses of a route may be missed.
fn overlaps_with_routes(
    facts: &Facts,
    ranges: &[(&'static str, Cidr)],
) -> Result<Vec<(Verdict, String)>, Unknown> {
    let routes = facts.host.routes.as_ref().map_err(Clone::clone)?;
    let of_engine = networks(facts).unwrap_or_default();
    let mut found = Vec::new();
    for (what, range) in ranges {
        for server in facts.host.resolvers.iter().flatten() {
            let server = Cidr::parse(&format!("{server}/32"));
            if let Some(server) = server.filter(|s| s.overlaps(*range)) {
                found.push((
                    Verdict::Bad,
                    format!("{what} {range} holds the name server {server}"),
                ));
            }
        }
        for route in routes {
            // The engine's own are judged as its networks; a default route is no range.
            let own = of_engine.iter().any(|(_, r)| *r == route.to);
            if route.to.prefix() > 0 && !own && route.to.overlaps(*range) {
                found.push((
                    Verdict::Tight,
                    format!(
                        "{what} {range} overlaps with the host's route to {} by {}",
                        route.to, route.device
                    ),
                ));
            }
        }
    }
    Ok(found)
}
