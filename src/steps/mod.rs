//! The steps of a bootstrap, one file per stage. Steps talk through `ports` only and keep what they find in [`state::State`].

mod cluster;
mod handover;
mod host;
mod in_cluster;
pub mod kubeconfig;
mod pivot;
pub mod removal;
mod seed;
mod shared;
pub mod state;
mod temporary;

use std::sync::Arc;

use crate::{
    engine::{Step, Steps},
    plan::{Plan, StepId, id},
};

pub use shared::{REGISTRY_PORT, Shared};
pub use temporary::{CREATION_LOCK, NODE_CONTAINER_LABEL, unpack_kind};

/// Implements every step of the plan; `None` for one that has no implementation.
pub fn all(plan: &Plan, shared: &Arc<Shared>) -> Steps {
    plan.steps
        .iter()
        .filter_map(|s| Some((s.id.clone(), implementation(&s.id, &s.components, shared)?)))
        .collect()
}

fn implementation(
    step: &StepId,
    components: &[String],
    shared: &Arc<Shared>,
) -> Option<Arc<dyn Step>> {
    let shared = shared.clone();
    let components = components.to_vec();
    Some(match step.0.as_str() {
        id::NETWORK => Arc::new(host::Network(shared)),
        id::OWN_IMAGE => Arc::new(host::OwnImage(shared)),
        id::REGISTRY => Arc::new(host::Registry(shared)),
        id::NODE_IMAGE => Arc::new(host::NodeImage(shared)),
        id::LOAD_BALANCER_IMAGE => Arc::new(host::LoadBalancerImage(shared)),
        id::TEMPORARY_CLUSTER => Arc::new(temporary::TemporaryCluster(shared)),
        id::TEMPORARY_PROVIDERS | id::TEMPORARY_FLUX => Arc::new(seed::Seed {
            shared,
            components,
            temporary: true,
            step: step.clone(),
        }),
        id::CONTROL_PLANE => Arc::new(cluster::ControlPlane(shared)),
        id::FLUX | id::PROVIDERS => Arc::new(seed::Seed {
            shared,
            components,
            temporary: false,
            step: step.clone(),
        }),
        id::MACHINES => Arc::new(cluster::Machines(shared)),
        id::MANAGER => Arc::new(handover::Manager(shared)),
        id::PIVOT => Arc::new(pivot::Pivot(shared)),
        id::HANDOVER => Arc::new(handover::Handover(shared)),
        id::REMOVE_TEMPORARY => Arc::new(temporary::Remove(shared)),
        id::PLATFORM => Arc::new(handover::Platform(shared)),
        id::VERIFY => Arc::new(handover::Verify(shared)),
        addon => Arc::new(cluster::Addon {
            shared,
            component: addon.strip_prefix("addon-")?.to_owned(),
        }),
    })
}
