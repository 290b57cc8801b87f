//! The plan of a removal: what goes in which order. Pure; must not talk to anything.

use super::{Plan, StepId, StepSpec};
use crate::VERSION;

/// Names of its steps.
pub mod id {
    /// Machines, load balancer and temporary cluster.
    pub const MACHINES: &str = "remove-machines";
    /// Registry, and what else mctl itself runs in the engine.
    pub const OWN: &str = "remove-registry";
    /// Images under mctl's own names.
    pub const IMAGES: &str = "remove-images";
    /// The network, unless it was there before or others use it.
    pub const NETWORK: &str = "remove-network";
    /// A last look.
    pub const PROOF: &str = "prove-removal";
}

/// Steps of a removal; the same whatever is left, so that a removal that was killed goes on with an equal plan.
pub fn removal(cluster: &str, run: &str) -> Plan {
    let step = |id: &str, title: &str, needs: &[&str]| StepSpec {
        id: id.into(),
        title: title.into(),
        needs: needs.iter().map(|n| StepId::from(*n)).collect(),
        components: Vec::new(),
        point_of_no_return: false,
    };
    Plan {
        cluster: cluster.into(),
        mctl: VERSION.into(),
        hash: format!("removal-{run}"),
        kubernetes_version: String::new(),
        images: Vec::new(),
        steps: vec![
            step(
                id::MACHINES,
                "machines, load balancer and temporary cluster",
                &[],
            ),
            // It says whose the machines are, so it goes after them.
            step(id::OWN, "registry", &[id::MACHINES]),
            step(id::IMAGES, "images under mctl's own names", &[id::OWN]),
            step(
                id::NETWORK,
                "network, if mctl made it and nobody else uses it",
                &[id::OWN],
            ),
            step(id::PROOF, "nothing is left", &[id::IMAGES, id::NETWORK]),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_whose_it_is_goes_after_what_it_is_said_of() {
        let plan = removal("demo", "5f");
        assert!(
            plan.ancestors(&id::OWN.into())
                .contains(&id::MACHINES.into())
        );
        assert_eq!(plan.ancestors(&id::PROOF.into()).len(), 4);
        assert_eq!(plan, removal("demo", "5f"));
    }
}
