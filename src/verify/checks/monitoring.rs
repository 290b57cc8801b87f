//! Checks of monitoring: what Prometheus reads, and whether an alert comes through. Pure.

use super::{Checked, Context, Found, bad, cluster::is_control_plane, read, some};
use crate::{
    manager::{
        alerts::WATCHDOG,
        kinds::{CUSTOMER_FLUX, PLATFORM_FLUX},
        status::HEARTBEAT_LIMIT,
    },
    verify::jobs,
};

pub(super) fn targets(c: &Context<'_>) -> Checked {
    if !c.enabled("monitoring") {
        return Ok(Found::LeftOut("monitoring is switched off".into()));
    }
    let look = "kubectl -n monitoring port-forward svc/prometheus-k8s 9090, then http://localhost:9090/targets";
    let found = c
        .facts
        .targets
        .as_ref()
        .map_err(|e| bad(format!("Prometheus does not answer: {e}"), look))?;
    let nodes = read(&c.facts.nodes, "nodes")?;
    let planes = nodes.iter().filter(|n| is_control_plane(n)).count();
    let controllers = read(&c.facts.deployments, "Deployments")?
        .iter()
        .filter(|d| {
            matches!(
                d.metadata.namespace.as_deref(),
                Some(PLATFORM_FLUX | CUSTOMER_FLUX)
            )
        })
        .count();
    let needed: Vec<_> = jobs::REQUIRED
        .iter()
        .filter(|j| c.enabled(j.component))
        .collect();
    let mut wrong = Vec::new();
    let mut up = 0;
    for job in &needed {
        let mine: Vec<_> = found.iter().filter(|t| t.job == job.name).collect();
        let want = job.count.resolve(planes, nodes.len(), controllers);
        let good = mine.iter().filter(|t| t.up).count();
        up += good;
        if let Some(down) = mine.iter().find(|t| !t.up) {
            wrong.push(format!("{} is down at {}", job.name, down.instance));
        } else if good < want {
            wrong.push(format!("{} has {good} of {want} targets", job.name));
        }
    }
    if wrong.is_empty() {
        Ok(Found::Good(format!(
            "{up} targets of {} jobs are up",
            needed.len()
        )))
    } else {
        Err(bad(some(&wrong), look))
    }
}

pub(super) fn heartbeat(c: &Context<'_>) -> Checked {
    if !c.enabled("monitoring") {
        return Ok(Found::LeftOut("monitoring is switched off".into()));
    }
    let look = "kubectl -n monitoring logs alertmanager-main-0";
    let alerts = c
        .facts
        .alerts
        .as_ref()
        .map_err(|e| bad(format!("the manager does not tell its alerts: {e}"), look))?;
    match alerts.iter().find(|a| a.name == WATCHDOG) {
        Some(w) if w.status == "firing" && w.age_seconds <= HEARTBEAT_LIMIT => {
            Ok(Found::Good(format!(
                "the always-firing alert came {} s ago through Alertmanager",
                w.age_seconds
            )))
        }
        Some(w) => Err(bad(
            format!(
                "the always-firing alert last came {} s ago ({})",
                w.age_seconds, w.status
            ),
            look,
        )),
        None => Err(bad("the always-firing alert has not come", look)),
    }
}
