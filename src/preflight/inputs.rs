//! Judgement of document, bundle and executable against each other. Must be pure.

use super::{
    Finding,
    facts::{Facts, Offer},
    on,
};

/// A run goes on only with the document it began with.
pub(super) fn document(facts: &Facts) -> Finding {
    let name = &facts.wanted.name;
    match &facts.wanted.earlier {
        Some(earlier) if earlier.differs => on("document", earlier.file.display().to_string()).bad(
            format!("the document differs from the one that `{name}` was begun with"),
            "spec is not the same",
            format!("edit the running cluster's document instead: kubectl -n giantswarm edit managementcluster {name}; or begin anew after: mctl destroy {name}"),
        ),
        Some(earlier) => on("document", earlier.file.display().to_string())
            .good("the document is the one of the earlier run", ""),
        None => on("document", "the document").good("the document is valid", ""),
    }
}

/// Machines would wait for a mount that is not there.
pub(super) fn mounts(facts: &Facts) -> Finding {
    let on = on("extra-mounts", "spec.provider.docker.extraMounts");
    let missing: Vec<&str> = facts
        .wanted
        .mounts
        .iter()
        .filter(|(_, there)| !**there)
        .map(|(path, _)| path.as_str())
        .collect();
    if missing.is_empty() {
        on.good("every folder that machines mount is there", "")
    } else {
        on.bad(
            "folders that machines mount are not there",
            missing.join(", "),
            "make them, or remove them from the document",
        )
    }
}

/// mctl runs in the cluster from an image around itself.
pub(super) fn own_image(facts: &Facts) -> Finding {
    let on = on("own-image", "/proc/self/exe");
    match &facts.wanted.own_image {
        Ok(()) => on.good("mctl can form its own image", ""),
        Err(why) => on.bad(
            "mctl cannot form its own image from this executable",
            why.0.as_str(),
            "use the released executable, or build one: cargo xtask dist",
        ),
    }
}

fn bundle(
    facts: &Facts,
    id: &'static str,
    judge: impl FnOnce(super::On, &Offer) -> Finding,
) -> Finding {
    match &facts.wanted.bundle {
        Some(offer) => judge(on(id, offer.path.display().to_string()), offer),
        None => on(id, "--bundle").good(
            "no bundle: images come from their registries or mirrors",
            "",
        ),
    }
}

/// Every image of the plan must be in the bundle, or nodes would wait for it for ever.
pub(super) fn bundle_images(facts: &Facts) -> Finding {
    bundle(facts, "bundle-images", |on, offer| {
        if offer.missing.is_empty() {
            on.good(
                format!("the bundle has all {} images of the plan", offer.needed),
                "",
            )
        } else {
            on.bad(
                format!("the bundle lacks {} images that the plan needs", offer.missing.len()),
                offer.missing.join(", "),
                "take a bundle made for this version of mctl, or switch the components off in the document",
            )
        }
    })
}

/// Machines run the version that is asked for.
pub(super) fn bundle_node_image(facts: &Facts) -> Finding {
    let wanted = &facts.wanted;
    bundle(facts, "bundle-node-image", |on, offer| {
        let tag = wanted
            .node_image
            .split('@')
            .next()
            .and_then(|image| image.rsplit_once(':'))
            .map_or("", |(_, tag)| tag);
        // A vendor's suffix is no other version.
        let fits = !tag.starts_with("v1.")
            || tag == wanted.kubernetes
            || tag
                .strip_prefix(&wanted.kubernetes)
                .is_some_and(|rest| rest.starts_with(['-', '_']));
        let held = if offer.node_images.is_empty() {
            "it holds none".to_owned()
        } else {
            format!("it holds {}", offer.node_images.join(", "))
        };
        if offer.missing.contains(&wanted.node_image) {
            on.bad(
                format!(
                    "the bundle has no node image for Kubernetes {}",
                    wanted.kubernetes
                ),
                format!("{} is needed; {held}", wanted.node_image),
                "set kubernetesVersion to a version that the bundle holds, or take another bundle",
            )
        } else if fits {
            on.good(
                format!(
                    "the bundle has the node image of Kubernetes {}",
                    wanted.kubernetes
                ),
                "",
            )
        } else {
            on.bad(
                format!(
                    "the node image is of {tag}, the document asks for Kubernetes {}",
                    wanted.kubernetes
                ),
                wanted.node_image.as_str(),
                format!("set kubernetesVersion: {tag}"),
            )
        }
    })
}

/// The registry's container mounts the bundle; the engine reads `:` and `,` in a mount as separators.
pub(super) fn bundle_path(facts: &Facts) -> Finding {
    bundle(facts, "bundle-path", |on, offer| {
        if offer.path.display().to_string().contains([':', ',']) {
            on.bad(
                "the bundle's path cannot be mounted",
                "the engine takes `:` and `,` in it for separators",
                "move the bundle to a path without them",
            )
        } else {
            on.good("the bundle's path can be mounted", "")
        }
    })
}
