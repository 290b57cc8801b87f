//! Lists everything that a move has to look at: kinds by their CRDs' labels, objects page by page. Must not change anything.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    api::ApiResource,
    core::{DynamicObject, GroupVersionKind},
    discovery::Scope,
};
use serde_json::Value;

use super::object::{CORE, MOVE, MOVE_HIERARCHY, Object};
use crate::{
    Error, Kind, Result,
    ports::kubernetes::{Cluster, Progress},
};

/// Labels that mark CRDs of Cluster API providers: clusterctl's own and that of the providers' manifests.
const CRD_LABELS: [&str; 2] = ["clusterctl.cluster.x-k8s.io", "cluster.x-k8s.io/provider"];
/// Lists in flight.
const LISTS: usize = 8;

/// A kind that takes part in a move.
#[derive(Clone, Debug)]
pub struct MoveKind {
    /// Group, stored version and kind.
    pub gvk: GroupVersionKind,
    /// Versions that are served.
    pub served: Vec<String>,
    /// True for cluster-scoped kinds.
    pub global: bool,
    moves: bool,
    hierarchy: bool,
}

/// The kinds that take part, by group and kind. The cluster learns their plurals, so that nothing has to be discovered.
pub async fn kinds(
    cluster: &Cluster,
    progress: &dyn Progress,
) -> Result<BTreeMap<(String, String), MoveKind>> {
    let definitions =
        GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    cluster.know(ApiResource::from_gvk(&definitions), Scope::Cluster);
    let mut kinds = BTreeMap::new();
    for kind in ["Secret", "ConfigMap"] {
        let gvk = GroupVersionKind::gvk("", "v1", kind);
        cluster.know(ApiResource::from_gvk(&gvk), Scope::Namespaced);
        kinds.insert(
            (String::new(), kind.to_owned()),
            MoveKind {
                gvk,
                served: vec!["v1".into()],
                global: false,
                moves: false,
                hierarchy: false,
            },
        );
    }
    for label in CRD_LABELS {
        let found = cluster
            .list_map(&definitions, None, Some(label), progress, |crd| {
                let (resource, kind) = kind_of(&crd)?;
                let scope = if kind.global {
                    Scope::Cluster
                } else {
                    Scope::Namespaced
                };
                cluster.know(resource, scope);
                Some(kind)
            })
            .await?;
        for kind in found.unwrap_or_default() {
            kinds.insert((kind.gvk.group.clone(), kind.gvk.kind.clone()), kind);
        }
    }
    if !kinds.contains_key(&(CORE.to_owned(), "Cluster".to_owned())) {
        return Err(Error::new(
            Kind::Preflight,
            format!("the {} has no Cluster API", cluster.name),
        )
        .because("no CustomResourceDefinition of kind Cluster carries a label of Cluster API")
        .state("nothing was changed")
        .fix("install Cluster API and its providers there first"));
    }
    Ok(kinds)
}

fn kind_of(crd: &DynamicObject) -> Option<(ApiResource, MoveKind)> {
    let text = |pointer: &str| {
        crd.data
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let group = text("/spec/group")?;
    let kind = text("/spec/names/kind")?;
    // clusterctl's inventory describes one management cluster; it does not move.
    if group == "clusterctl.cluster.x-k8s.io" {
        return None;
    }
    let versions = crd.data.pointer("/spec/versions")?.as_array()?;
    let name = |v: &Value| v["name"].as_str().unwrap_or_default().to_owned();
    let stored = versions.iter().find(|v| v["storage"] == true)?;
    let gvk = GroupVersionKind::gvk(&group, &name(stored), &kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &text("/spec/names/plural")?);
    let labels = crd.metadata.labels.clone().unwrap_or_default();
    let forced = matches!(
        (group.as_str(), kind.as_str()),
        (CORE, "Cluster" | "ClusterClass") | ("addons.cluster.x-k8s.io", "ClusterResourceSet")
    );
    let hierarchy = forced || labels.contains_key(MOVE_HIERARCHY);
    Some((
        resource,
        MoveKind {
            gvk,
            served: versions
                .iter()
                .filter(|v| v["served"] == true)
                .map(name)
                .collect(),
            global: text("/spec/scope")? == "Cluster",
            moves: hierarchy || labels.contains_key(MOVE),
            hierarchy,
        },
    ))
}

/// What a namespace holds.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All objects of the kinds that take part, cluster-scoped ones included.
    pub objects: Vec<Object>,
    /// ClusterClasses of the namespace that Clusters of other namespaces use.
    pub shared_classes: BTreeSet<String>,
}

/// Lists all objects of these kinds.
pub async fn view<'a>(
    cluster: &Cluster,
    kinds: impl IntoIterator<Item = &'a MoveKind>,
    namespace: &str,
    progress: &dyn Progress,
) -> Result<View> {
    let kinds: Vec<&MoveKind> = kinds.into_iter().collect();
    let lists: Vec<_> = kinds
        .iter()
        .map(|kind| list(cluster, kind, Some(namespace), progress))
        .collect();
    // In the order of the kinds, so that every run sees the same.
    let lists: Vec<Vec<Object>> = stream::iter(lists).buffered(LISTS).try_collect().await?;
    let mut objects: Vec<Object> = lists.into_iter().flatten().collect();
    // A cluster-scoped object that takes Secrets along keeps them in a namespace of its own.
    if objects.iter().any(|o| o.is_global() && o.hierarchy) {
        let secret = GroupVersionKind::gvk("", "v1", "Secret");
        let owners: BTreeSet<String> = objects
            .iter()
            .filter(|o| o.is_global() && o.hierarchy)
            .map(|o| o.uid().to_owned())
            .collect();
        let owned = cluster
            .list_map(&secret, None, None, progress, |o| {
                let object = Object::new(o, &secret);
                let owned = object.owners().iter().any(|r| owners.contains(&r.uid));
                (owned && object.namespace() != Some(namespace)).then_some(object)
            })
            .await?;
        objects.extend(owned.unwrap_or_default());
    }
    let mut shared_classes = BTreeSet::new();
    if objects.iter().any(|o| o.is(CORE, "ClusterClass"))
        && let Some(kind) = kinds
            .iter()
            .find(|k| k.gvk.group == CORE && k.gvk.kind == "Cluster")
    {
        let used = cluster
            .list_map(&kind.gvk, None, None, progress, |o| {
                let class = o.data.pointer("/spec/topology/classRef")?;
                let foreign = o.metadata.namespace.as_deref() != Some(namespace);
                (foreign && class["namespace"] == namespace)
                    .then(|| class["name"].as_str().unwrap_or_default().to_owned())
            })
            .await?;
        shared_classes.extend(used.unwrap_or_default());
    }
    Ok(View {
        objects,
        shared_classes,
    })
}

async fn list(
    cluster: &Cluster,
    kind: &MoveKind,
    namespace: Option<&str>,
    progress: &dyn Progress,
) -> Result<Vec<Object>> {
    let namespace = namespace.filter(|_| !kind.global);
    let found = cluster
        .list_map(&kind.gvk, namespace, None, progress, |o| {
            let mut object = Object::new(o, &kind.gvk);
            object.hierarchy = kind.hierarchy || object.label(MOVE_HIERARCHY).is_some();
            object.moves = kind.moves || object.hierarchy || object.label(MOVE).is_some();
            Some(object)
        })
        .await?;
    Ok(found.unwrap_or_default())
}
