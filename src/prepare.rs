//! From what a user names to what a run needs: document, bundle, catalog, plan, checked against each other.
//! The one way for plan, preflight and bootstrap. Must not change anything, nor print.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    Error, Kind, Result,
    bundle::Bundle,
    catalog::Catalog,
    config::{self, Cidr, ClusterName, ManagementCluster},
    error::About,
    plan::{self, Plan},
    ports::{Ports, docker::Docker},
    preflight::{
        self, Finding,
        facts::{Earlier, Offer, Unknown, Wanted},
    },
    steps::state::{Request, State},
};

/// What a user names.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// File with the document; `-` for standard input.
    pub config: &'a Path,
    /// Bundle: a folder or a tar file.
    pub bundle: Option<&'a Path>,
}

/// What was read, and what follows from it.
#[derive(Debug)]
pub struct Prepared {
    /// Name of the cluster.
    pub name: ClusterName,
    /// The document.
    pub document: ManagementCluster,
    /// Bundle, if one was given, with its absolute path.
    pub bundle: Option<(PathBuf, Bundle)>,
    /// Catalog with the bundle's profile applied.
    pub catalog: Catalog,
    /// Plan.
    pub plan: Plan,
}

/// What is said of errors that do not say it themselves.
const ABOUT: About = About {
    place: "document and bundle",
    state: "nothing was changed",
    fix: "mend what is named above, then run the command again",
};

/// Reads everything; all problems of the document at once.
pub fn prepare(inputs: Inputs<'_>) -> Result<Prepared> {
    read(inputs).map_err(|e| e.complete(&ABOUT))
}

fn read(inputs: Inputs<'_>) -> Result<Prepared> {
    let catalog = Catalog::embedded()?;
    let document = document(inputs.config, &catalog)?;
    let name = document.cluster_name()?;
    let bundle = inputs.bundle.map(open).transpose()?;
    let profile = bundle
        .as_ref()
        .map(|(_, b)| b.profile())
        .transpose()?
        .flatten();
    let catalog = match &profile {
        Some(profile) => catalog.with_profile(profile)?,
        None => catalog,
    };
    let plan = plan::bootstrap(&document, &catalog)?;
    Ok(Prepared {
        name,
        document,
        bundle,
        catalog,
        plan,
    })
}

/// Reads a document from a file, or from standard input if that is `-`, and checks it.
pub fn document(file: &Path, catalog: &Catalog) -> Result<ManagementCluster> {
    let (bytes, name) = if file == Path::new("-") {
        (limited(std::io::stdin()), "standard input".to_owned())
    } else {
        let bytes = std::fs::File::open(file).and_then(limited);
        (bytes, file.display().to_string())
    };
    let bytes = bytes.map_err(|e| {
        Error::new(Kind::Usage, "the document cannot be read")
            .at(name.as_str())
            .because(&e)
            .fix("write a first document: mctl config init --name NAME > mc.yaml")
            .state("nothing was changed")
    })?;
    let text = config::decode(bytes, &name)?;
    Ok(config::load_for(&text, &name, &catalog.known())?)
}

/// What is more than a document may have is not read: it may never end.
fn limited(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(config::MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open(path: &Path) -> Result<(PathBuf, Bundle)> {
    let absolute = path.canonicalize().map_err(|e| {
        Error::new(Kind::Usage, "the bundle cannot be opened")
            .at(path.display().to_string())
            .because(&e)
            .fix("give the path of a bundle: a folder or a tar file")
            .state("nothing was changed")
    })?;
    let bundle = Bundle::open(&absolute)?;
    Ok((absolute, bundle))
}

impl Prepared {
    /// Looks at engine and host, and judges all that is known.
    pub async fn findings(
        &self,
        ports: &Ports,
        docker: &Docker,
        state: &State,
        earlier: Option<&Request>,
    ) -> Result<Vec<Finding>> {
        let earlier = earlier.map(|earlier| Earlier {
            file: state.file("request.json"),
            differs: earlier.document.spec != self.document.spec,
        });
        let facts = preflight::look(self.wanted(earlier)?, ports, docker).await;
        Ok(preflight::judge(&facts))
    }

    /// What the checks are held against.
    fn wanted(&self, earlier: Option<Earlier>) -> Result<Wanted> {
        let spec = &self.document.spec;
        let workers = spec.node_pools.iter().map(|p| u64::from(p.replicas));
        let mounts = spec.provider.docker.iter().flat_map(|d| &d.extra_mounts);
        Ok(Wanted {
            name: self.name.clone(),
            machines: u64::from(spec.control_plane.replicas) + workers.sum::<u64>(),
            pods: range("podCidr", &spec.network.pod_cidr)?,
            services: range("serviceCidr", &spec.network.service_cidr)?,
            kubernetes: self.plan.kubernetes_version.clone(),
            node_image: self.catalog.node_image(&self.document)?,
            mounts: mounts.map(|m| (m.host_path.clone(), false)).collect(),
            mirrored: spec.registry.mirrors.iter().any(|m| m.upstream == "*"),
            bundle: self.bundle.as_ref().map(|(path, b)| self.offer(path, b)),
            earlier,
            own_image: Err(Unknown::new("it was not looked at")),
        })
    }

    /// The bundle against the plan: nodes would wait for an image that it lacks for ever.
    fn offer(&self, path: &Path, bundle: &Bundle) -> Offer {
        let images = self.plan.images.iter();
        let lacks = images.filter(|i| bundle.image_id(i).is_err()).cloned();
        let held = bundle.references().into_iter();
        Offer {
            path: path.to_owned(),
            missing: lacks.collect(),
            needed: self.plan.images.len(),
            node_images: held.filter(|r| r.contains("kindest/node")).collect(),
        }
    }
}

/// A range of a document that was checked before.
fn range(field: &str, text: &str) -> Result<Cidr> {
    Cidr::parse(text).ok_or_else(|| {
        Error::new(
            Kind::Usage,
            format!("`{text}` is not a range of IPv4 addresses"),
        )
        .at(format!("spec.network.{field}"))
        .because("four numbers, a `/` and a length are expected")
        .fix("mctl config validate FILE shows what is wrong")
        .state("nothing was changed")
    })
}
