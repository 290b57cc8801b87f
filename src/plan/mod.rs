//! The plan: which steps a bootstrap takes, in which order, with what they bring. Pure; must not talk to anything.

pub mod removal;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Error, Kind, Result, VERSION,
    catalog::{Catalog, Component, Stage, Target},
    config::ManagementCluster,
};

/// Stable name of a step: `control-plane`, `addon-cilium`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub String);

impl std::fmt::Display for StepId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for StepId {
    fn from(s: &str) -> Self {
        Self(s.to_owned())
    }
}

/// Names of the steps that are not made from the catalog.
pub mod id {
    /// Docker network `kind`.
    pub const NETWORK: &str = "network";
    /// mctl's own image in the engine.
    pub const OWN_IMAGE: &str = "own-image";
    /// Registry container.
    pub const REGISTRY: &str = "registry";
    /// Node image in the engine.
    pub const NODE_IMAGE: &str = "node-image";
    /// Load balancer's image in the engine.
    pub const LOAD_BALANCER_IMAGE: &str = "load-balancer-image";
    /// kind cluster.
    pub const TEMPORARY_CLUSTER: &str = "temporary-cluster";
    /// Cluster API in the temporary cluster.
    pub const TEMPORARY_PROVIDERS: &str = "temporary-providers";
    /// Flux in the temporary cluster.
    pub const TEMPORARY_FLUX: &str = "temporary-flux";
    /// First control-plane machine of the new cluster.
    pub const CONTROL_PLANE: &str = "control-plane";
    /// All machines of the new cluster.
    pub const MACHINES: &str = "machines";
    /// Flux, and what everything else builds on, in the new cluster.
    pub const FLUX: &str = "flux";
    /// Cluster API in the new cluster.
    pub const PROVIDERS: &str = "providers";
    /// mctl's manager in the new cluster.
    pub const MANAGER: &str = "manager";
    /// Cluster API objects move to the new cluster: the point of no return.
    pub const PIVOT: &str = "pivot";
    /// The document and what goes with it are given to the manager.
    pub const HANDOVER: &str = "handover";
    /// kind cluster is removed.
    pub const REMOVE_TEMPORARY: &str = "remove-temporary-cluster";
    /// Everything in the platform artifact is ready.
    pub const PLATFORM: &str = "platform";
    /// Acceptance checks.
    pub const VERIFY: &str = "verify";

    /// Step that installs a cluster add-on from the temporary cluster.
    pub fn addon(component: &str) -> String {
        format!("addon-{component}")
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepSpec {
    /// Its name.
    pub id: StepId,
    /// One line for people.
    pub title: String,
    /// Steps that must be done first.
    pub needs: Vec<StepId>,
    /// Components it brings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// After it there is no way back, only forward.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub point_of_no_return: bool,
}

/// An ordered, acyclic set of steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Cluster it is for.
    pub cluster: String,
    /// Version of mctl that made it.
    pub mctl: String,
    /// Digest of document, profile and steps: equal input, equal hash.
    pub hash: String,
    /// Kubernetes version of the new cluster.
    pub kubernetes_version: String,
    /// Steps in an order in which they could run one after the other.
    pub steps: Vec<StepSpec>,
    /// Container images that will run, sorted.
    pub images: Vec<String>,
}

impl Plan {
    /// All steps that must be done before this one, however far back.
    pub fn ancestors(&self, id: &StepId) -> BTreeSet<StepId> {
        let by_id: BTreeMap<&StepId, &StepSpec> = self.steps.iter().map(|s| (&s.id, s)).collect();
        let mut open: Vec<&StepId> = by_id
            .get(id)
            .map(|s| s.needs.iter().collect())
            .unwrap_or_default();
        let mut all = BTreeSet::new();
        while let Some(next) = open.pop() {
            if all.insert(next.clone())
                && let Some(step) = by_id.get(next)
            {
                open.extend(&step.needs);
            }
        }
        all
    }

    /// The part of the plan that leads to `until`, included; an error names the nearest step when there is none such.
    pub fn until(&self, until: &str) -> Result<Self> {
        let id = StepId::from(until);
        if !self.steps.iter().any(|s| s.id == id) {
            let near = self.steps.iter().map(|s| s.id.0.as_str()).max_by(|a, b| {
                strsim::jaro_winkler(a, until).total_cmp(&strsim::jaro_winkler(b, until))
            });
            return Err(
                Error::new(Kind::Usage, format!("there is no step `{until}`"))
                    .fix(format!(
                        "did you mean `{}`? `mctl plan` lists all steps",
                        near.unwrap_or_default()
                    ))
                    .state("nothing was changed"),
            );
        }
        let mut keep = self.ancestors(&id);
        keep.insert(id);
        let mut plan = self.clone();
        plan.steps.retain(|s| keep.contains(&s.id));
        Ok(plan)
    }
}

/// Components of this document that are switched on, in the catalog's order.
pub fn enabled<'a>(document: &ManagementCluster, catalog: &'a Catalog) -> Vec<&'a Component> {
    catalog
        .components
        .values()
        .filter(|c| is_enabled(document, catalog, c))
        .collect()
}

fn is_enabled(document: &ManagementCluster, catalog: &Catalog, component: &Component) -> bool {
    let without = catalog
        .profile
        .as_ref()
        .is_some_and(|p| p.without.contains(&component.name));
    !without && catalog.is_enabled(document, component)
}

/// Steps of a bootstrap.
pub fn bootstrap(document: &ManagementCluster, catalog: &Catalog) -> Result<Plan> {
    let cluster = document.metadata.name.clone().unwrap_or_default();
    let components = enabled(document, catalog);
    let names = |stage: Stage, target: Target| -> Vec<String> {
        components
            .iter()
            .filter(|c| c.stage == stage && c.clusters.contains(&target))
            .map(|c| c.name.clone())
            .collect()
    };
    let seed = |target: Target, which: fn(&Component) -> bool| -> Vec<String> {
        let seeds = components
            .iter()
            .filter(|c| c.stage == Stage::Seed && c.clusters.contains(&target));
        seeds.filter(|c| which(c)).map(|c| c.name.clone()).collect()
    };
    let addons = names(Stage::ClusterAddon, Target::Management);
    let mut steps = Vec::new();
    let mut add = |id: &str, title: String, needs: &[&str], components: Vec<String>| {
        steps.push(StepSpec {
            id: id.into(),
            title,
            needs: needs.iter().map(|n| StepId::from(*n)).collect(),
            components,
            point_of_no_return: id == id::PIVOT,
        });
    };
    add(id::NETWORK, "Docker network `kind`".into(), &[], vec![]);
    add(
        id::OWN_IMAGE,
        "mctl's own image in the engine".into(),
        &[],
        vec![],
    );
    add(
        id::REGISTRY,
        "registry for nodes and Flux".into(),
        &[id::NETWORK, id::OWN_IMAGE],
        vec![],
    );
    add(
        id::NODE_IMAGE,
        "node image in the engine".into(),
        &[],
        vec![],
    );
    // After the node image, which the engine should read alone: everything waits for that one.
    add(
        id::LOAD_BALANCER_IMAGE,
        "load balancer's image in the engine".into(),
        &[id::NODE_IMAGE],
        vec![],
    );
    add(
        id::TEMPORARY_CLUSTER,
        "temporary kind cluster".into(),
        &[id::REGISTRY, id::NODE_IMAGE],
        vec![],
    );
    add(
        id::TEMPORARY_PROVIDERS,
        "Cluster API in the temporary cluster".into(),
        &[id::TEMPORARY_CLUSTER],
        seed(Target::Temporary, |c| c.cluster_api_provider.is_some()),
    );
    // Not before Cluster API: it has time while the first machine comes up.
    add(
        id::TEMPORARY_FLUX,
        "Flux in the temporary cluster".into(),
        &[id::TEMPORARY_PROVIDERS],
        seed(Target::Temporary, |c| c.cluster_api_provider.is_none()),
    );
    let version = catalog.kubernetes_version(document)?;
    add(
        id::CONTROL_PLANE,
        format!("first control-plane machine, Kubernetes {version}"),
        &[id::TEMPORARY_PROVIDERS, id::LOAD_BALANCER_IMAGE],
        vec![],
    );
    add(
        id::FLUX,
        "Flux in the new cluster".into(),
        &[id::CONTROL_PLANE],
        seed(Target::Management, |c| {
            c.cluster_api_provider.is_none() && c.name != "mctl"
        }),
    );
    add(
        id::PROVIDERS,
        "Cluster API in the new cluster".into(),
        &[id::CONTROL_PLANE],
        seed(Target::Management, |c| c.cluster_api_provider.is_some()),
    );
    let mut before_pivot = vec![id::PROVIDERS.to_owned(), id::MACHINES.to_owned()];
    for name in &addons {
        let id = id::addon(name);
        add(
            &id,
            format!("{name} in the new cluster, by Flux from the temporary one"),
            &[id::CONTROL_PLANE, id::TEMPORARY_FLUX],
            vec![name.clone()],
        );
        before_pivot.push(id);
    }
    let pools: u32 = document.spec.node_pools.iter().map(|p| p.replicas).sum();
    let machines = format!(
        "{} control-plane and {pools} worker machines",
        document.spec.control_plane.replicas
    );
    let mut needs: Vec<String> = addons.iter().map(|n| id::addon(n)).collect();
    needs.push(id::CONTROL_PLANE.to_owned());
    add(
        id::MACHINES,
        machines,
        &needs.iter().map(String::as_str).collect::<Vec<_>>(),
        vec![],
    );
    add(
        id::MANAGER,
        "mctl as manager in the new cluster".into(),
        &[id::CONTROL_PLANE],
        seed(Target::Management, |c| c.name == "mctl"),
    );
    // Before the pivot, and before Flux is ready: the platform comes up while Cluster API does. The manager leaves the
    // Cluster API objects alone until they are there and free.
    let mut needs = vec![id::MANAGER.to_owned()];
    needs.extend(addons.iter().map(|n| id::addon(n)));
    add(
        id::HANDOVER,
        "the manager takes over".into(),
        &needs.iter().map(String::as_str).collect::<Vec<_>>(),
        vec![],
    );
    add(
        id::PIVOT,
        "Cluster API objects move to the new cluster".into(),
        &before_pivot.iter().map(String::as_str).collect::<Vec<_>>(),
        vec![],
    );
    add(
        id::REMOVE_TEMPORARY,
        "temporary cluster removed".into(),
        &[id::PIVOT],
        vec![],
    );
    add(
        id::PLATFORM,
        "platform by flux-giantswarm".into(),
        &[id::FLUX, id::HANDOVER, id::PIVOT],
        names(Stage::Management, Target::Management),
    );
    add(
        id::VERIFY,
        "acceptance checks".into(),
        &[id::PLATFORM, id::REMOVE_TEMPORARY],
        vec![],
    );

    let provider = catalog.providers.get(document.spec.provider.name());
    let images: BTreeSet<String> = components
        .iter()
        .flat_map(|c| c.images.iter().cloned())
        .chain(
            provider
                .into_iter()
                .flat_map(|p| p.images.iter().map(|i| i.replace("{version}", &version))),
        )
        .collect();
    let mut plan = Plan {
        cluster,
        mctl: VERSION.into(),
        hash: String::new(),
        kubernetes_version: version,
        steps: ordered(steps)?,
        images: images.into_iter().collect(),
    };
    plan.hash = hash(document, catalog, &plan)?;
    Ok(plan)
}

fn hash(document: &ManagementCluster, catalog: &Catalog, plan: &Plan) -> Result<String> {
    let value = serde_json::json!({
        "name": document.metadata.name, "spec": document.spec, "profile": catalog.profile, "steps": plan.steps, "images": plan.images, "mctl": VERSION,
    });
    let bytes = serde_json::to_vec(&value).map_err(|e| {
        Error::new(Kind::Internal, "the plan cannot be written as JSON").because(&e)
    })?;
    Ok(hex::encode(&Sha256::digest(bytes)[..16]))
}

/// Orders steps so that each comes after what it needs, keeping the given order otherwise.
fn ordered(mut open: Vec<StepSpec>) -> Result<Vec<StepSpec>> {
    let mut done: Vec<StepSpec> = Vec::with_capacity(open.len());
    while let Some(i) = open
        .iter()
        .position(|s| s.needs.iter().all(|n| done.iter().any(|d| d.id == *n)))
    {
        done.push(open.remove(i));
    }
    if open.is_empty() {
        return Ok(done);
    }
    let left: Vec<String> = open.iter().map(|s| s.id.to_string()).collect();
    Err(Error::new(
        Kind::Internal,
        "the plan has steps that need each other, or what no step brings",
    )
    .because(left.join(", "))
    .state("nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(name: &str, stage: Stage) -> Component {
        serde_json::from_value(serde_json::json!({
            "name": name, "description": "", "version": "1", "namespace": name,
            "stage": stage, "images": [format!("example.io/{name}:1")],
        }))
        .unwrap()
    }

    fn catalog() -> Catalog {
        let mut c = Catalog::default();
        for (name, stage) in [
            ("cilium", Stage::ClusterAddon),
            ("flux", Stage::Seed),
            ("mctl", Stage::Seed),
            ("kyverno", Stage::Management),
        ] {
            c.components.insert(name.into(), component(name, stage));
        }
        c.providers.insert(
            "docker".into(),
            serde_json::from_value(serde_json::json!({"name": "docker", "description": "", "components": ["flux"], "templates": [], "kubernetesVersion": "v1.36.1", "nodeImage": "kindest/node:{version}"})).unwrap(),
        );
        c
    }

    fn document() -> ManagementCluster {
        ManagementCluster::new("demo", Default::default())
    }

    #[test]
    fn every_need_is_a_step_that_comes_before() {
        let plan = bootstrap(&document(), &catalog()).unwrap();
        for (i, step) in plan.steps.iter().enumerate() {
            for need in &step.needs {
                assert!(
                    plan.steps[..i].iter().any(|s| s.id == *need),
                    "{need} before {}",
                    step.id
                );
            }
        }
        assert_eq!(plan.steps.len(), 19);
    }

    #[test]
    fn flux_has_one_writer_of_each_release_and_nothing_goes_before_it_is_proven() {
        let plan = bootstrap(&document(), &catalog()).unwrap();
        let before = |step: &str| plan.ancestors(&StepId::from(step));
        // The temporary cluster lets go of a release in the add-on's step; the new cluster's Flux begins at the handover.
        assert!(before(id::HANDOVER).contains(&StepId(id::addon("cilium"))));
        assert!(before(id::PIVOT).contains(&id::PROVIDERS.into()));
        assert!(before(id::PIVOT).contains(&id::MACHINES.into()));
        assert!(before(id::REMOVE_TEMPORARY).contains(&id::PIVOT.into()));
        assert!(before(id::PLATFORM).contains(&id::PIVOT.into()));
    }

    #[test]
    fn equal_input_equal_hash_and_any_change_shows() {
        let a = bootstrap(&document(), &catalog()).unwrap();
        assert_eq!(a, bootstrap(&document(), &catalog()).unwrap());
        let mut other = document();
        other.spec.control_plane.replicas = 3;
        assert_ne!(a.hash, bootstrap(&other, &catalog()).unwrap().hash);
    }

    #[test]
    fn a_component_switched_off_is_absent() {
        let mut d = document();
        d.spec.components.insert(
            "kyverno".into(),
            serde_json::from_value(serde_json::json!({"enabled": false})).unwrap(),
        );
        let plan = bootstrap(&d, &catalog()).unwrap();
        assert!(
            !plan
                .steps
                .iter()
                .any(|s| s.components.contains(&"kyverno".to_owned()))
        );
        assert!(!plan.images.contains(&"example.io/kyverno:1".to_owned()));
    }

    #[test]
    fn until_keeps_what_leads_there_and_names_the_nearest() {
        let plan = bootstrap(&document(), &catalog()).unwrap();
        let part = plan.until("control-plane").unwrap();
        assert_eq!(
            part.steps.last().map(|s| s.id.0.as_str()),
            Some("control-plane")
        );
        assert!(!part.steps.iter().any(|s| s.id.0 == "pivot"));
        let e = plan.until("controlplane").unwrap_err().to_string();
        assert!(e.contains("did you mean `control-plane`"), "{e}");
    }
}
