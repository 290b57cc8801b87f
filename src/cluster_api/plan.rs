//! What moves, in which order, and why: from objects to layers in O(objects + owners). Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::object::{CORE, Object};

/// Secrets that Cluster API finds by name: `<cluster>-<purpose>`.
const PURPOSES: [&str; 6] = [
    "kubeconfig",
    "ca",
    "etcd",
    "sa",
    "proxy",
    "apiserver-etcd-client",
];

/// What happens to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// Created in the target, deleted in the source.
    Moved,
    /// Created in the target unless it is there, kept in the source, and why.
    Copied(&'static str),
    /// Left alone, and why.
    Ignored(&'static str),
}

/// The plan; indices are those of the objects it was made from.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Objects by layer; every owner is in a lower layer.
    pub layers: Vec<Vec<usize>>,
    /// Class of every object.
    pub classes: Vec<Class>,
}

impl Plan {
    /// All objects that are copied or moved, in order.
    pub fn objects(&self) -> impl Iterator<Item = usize> + '_ {
        self.layers.iter().flatten().copied()
    }

    /// True when the object stays in the source.
    pub fn stays(&self, index: usize) -> bool {
        matches!(self.classes.get(index), Some(Class::Copied(_)))
    }
}

/// Owners of every object, hard (owner references) and soft (by name), as indices.
struct Graph {
    owners: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
}

impl Graph {
    fn of(objects: &[Object]) -> (Self, Vec<(usize, String)>) {
        let by_uid: HashMap<&str, usize> = objects
            .iter()
            .enumerate()
            .map(|(i, o)| (o.uid(), i))
            .collect();
        let mut graph = Self {
            owners: vec![Vec::new(); objects.len()],
            dependents: vec![Vec::new(); objects.len()],
        };
        let mut unknown = Vec::new();
        for (i, object) in objects.iter().enumerate() {
            for owner in object.owners() {
                match by_uid.get(owner.uid.as_str()) {
                    Some(&o) => graph.link(o, i),
                    None => unknown.push((i, format!("{} {}", owner.kind, owner.name))),
                }
            }
        }
        graph.soft(objects);
        (graph, unknown)
    }

    fn link(&mut self, owner: usize, dependent: usize) {
        if !self.owners[dependent].contains(&owner) {
            self.owners[dependent].push(owner);
            self.dependents[owner].push(dependent);
        }
    }

    fn soft(&mut self, objects: &[Object]) {
        let named = |group: &str, kind: &str| -> HashMap<(Option<&str>, &str), usize> {
            let found = objects
                .iter()
                .enumerate()
                .filter(|(_, o)| o.is(group, kind));
            found.map(|(i, o)| ((o.namespace(), o.name()), i)).collect()
        };
        let clusters = named(CORE, "Cluster");
        let classes = named(CORE, "ClusterClass");
        let secrets = named("", "Secret");
        for (i, object) in objects.iter().enumerate() {
            if object.is("", "Secret") && object.owners().is_empty() {
                for purpose in PURPOSES {
                    let cluster = object
                        .name()
                        .strip_suffix(purpose)
                        .and_then(|rest| rest.strip_suffix('-'))
                        .and_then(|name| clusters.get(&(object.namespace(), name)));
                    if let Some(&cluster) = cluster {
                        self.link(cluster, i);
                    }
                }
            }
            if object.is(CORE, "Cluster") {
                let class = object.text("/spec/topology/classRef/name");
                if let Some(&class) = classes.get(&(object.namespace(), class)) {
                    self.link(class, i);
                }
            }
            if object.is("addons.cluster.x-k8s.io", "ClusterResourceSetBinding")
                && let Some(&cluster) =
                    clusters.get(&(object.namespace(), object.text("/spec/clusterName")))
            {
                self.link(cluster, i);
            }
            // Files and passwords of machines may come from a Secret that nothing else ties to the cluster.
            let mut names = Vec::new();
            referenced_secrets(&object.object.data, &mut names);
            for name in names {
                if let Some(&secret) = secrets.get(&(object.namespace(), name))
                    && objects[secret].owners().is_empty()
                {
                    self.link(i, secret);
                }
            }
        }
    }

    /// Everything below the roots, roots included.
    fn below(&self, roots: impl Iterator<Item = usize>) -> HashSet<usize> {
        let mut seen: HashSet<usize> = HashSet::new();
        let mut next: Vec<usize> = roots.collect();
        while let Some(i) = next.pop() {
            if seen.insert(i) {
                next.extend(&self.dependents[i]);
            }
        }
        seen
    }
}

fn referenced_secrets<'a>(value: &'a Value, names: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if matches!(name.as_str(), "contentFrom" | "passwdFrom")
                    && let Some(secret) = value.pointer("/secret/name").and_then(Value::as_str)
                {
                    names.push(secret);
                }
                referenced_secrets(value, names);
            }
        }
        Value::Array(list) => list.iter().for_each(|v| referenced_secrets(v, names)),
        _ => {}
    }
}

/// Plans a move. `shared` names ClusterClasses (of the namespace that moves) that Clusters of other namespaces use.
/// `Err` is every reason why this set of objects cannot be moved.
pub fn plan(objects: &[Object], shared: &BTreeSet<String>) -> Result<Plan, Vec<String>> {
    let (graph, unknown) = Graph::of(objects);
    let index = |wanted: &dyn Fn(&Object) -> bool| -> Vec<usize> {
        (0..objects.len())
            .filter(|&i| wanted(&objects[i]))
            .collect()
    };
    let roots = index(&|o| o.hierarchy);
    let tenants = graph.below(roots.iter().copied());
    let global = graph.below(roots.iter().copied().filter(|&i| objects[i].is_global()));
    let is_shared = |o: &Object| o.is(CORE, "ClusterClass") && shared.contains(o.name());
    // A class owns its templates by owner reference and its Clusters only softly: the Clusters do move.
    let shared: HashSet<usize> = {
        let classes = index(&is_shared);
        let templates = classes.iter().flat_map(|&c| &graph.dependents[c]);
        let hard = templates
            .copied()
            .filter(|&t| !objects[t].is(CORE, "Cluster"));
        hard.chain(classes.iter().copied()).collect()
    };
    let classes: Vec<Class> = objects
        .iter()
        .enumerate()
        .map(|(i, o)| {
            if !(tenants.contains(&i) || o.moves || o.hierarchy) {
                Class::Ignored(if o.owners().is_empty() {
                    "belongs to no Cluster and has no move label"
                } else {
                    "its owners do not move"
                })
            } else if o.is_global() {
                Class::Copied("cluster-scoped: others may use it")
            } else if global.contains(&i) {
                Class::Copied("belongs to a cluster-scoped object")
            } else if shared.contains(&i) {
                Class::Copied("Clusters of other namespaces use it")
            } else {
                Class::Moved
            }
        })
        .collect();
    let goes = |i: usize| !matches!(classes[i], Class::Ignored(_));
    let mut problems = problems(objects, &graph, unknown, &goes);
    let (layers, stuck) = layers(&graph, objects, &goes);
    if !stuck.is_empty() {
        problems.push(cycle(&graph, objects, &stuck));
    }
    if problems.is_empty() {
        Ok(Plan { layers, classes })
    } else {
        Err(problems)
    }
}

fn problems(
    objects: &[Object],
    graph: &Graph,
    unknown: Vec<(usize, String)>,
    goes: &dyn Fn(usize) -> bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (i, owner) in unknown {
        if goes(i) {
            problems.push(format!(
                "{} is owned by {owner}, which is not there or of a kind that does not move",
                objects[i]
            ));
        }
    }
    for (i, object) in objects.iter().enumerate().filter(|(i, _)| goes(*i)) {
        for &owner in graph.owners[i].iter().filter(|o| !goes(**o)) {
            problems.push(format!(
                "{object} is owned by {}, which does not move",
                objects[owner]
            ));
        }
        let class = object.text("/spec/topology/classRef/namespace");
        if object.is(CORE, "Cluster") && !class.is_empty() && Some(class) != object.namespace() {
            problems.push(format!(
                "{object} uses a ClusterClass of namespace {class}, which this move does not cover"
            ));
        }
    }
    problems
}

/// Layers by longest way from the top, and what could not be placed.
fn layers(
    graph: &Graph,
    objects: &[Object],
    goes: &dyn Fn(usize) -> bool,
) -> (Vec<Vec<usize>>, Vec<usize>) {
    let count = objects.len();
    let owners = |i: usize| graph.owners[i].iter().copied().filter(|o| goes(*o));
    let mut open: Vec<usize> = (0..count).map(|i| owners(i).count()).collect();
    let mut layers: Vec<Vec<usize>> = Vec::new();
    let mut layer: Vec<usize> = (0..count).filter(|&i| goes(i) && open[i] == 0).collect();
    let mut placed = vec![false; count];
    while !layer.is_empty() {
        let mut next = Vec::new();
        for &i in &layer {
            placed[i] = true;
            for &d in &graph.dependents[i] {
                open[d] -= 1;
                if open[d] == 0 && goes(d) {
                    next.push(d);
                }
            }
        }
        // The same order in every run, whatever order the objects came in.
        layer.sort_by_key(|&i| objects[i].key());
        layers.push(std::mem::replace(&mut layer, next));
    }
    let stuck = (0..count).filter(|&i| goes(i) && !placed[i]).collect();
    (layers, stuck)
}

/// One circle among objects that cannot be placed: everything unplaced has an unplaced owner, so going up must come round.
fn cycle(graph: &Graph, objects: &[Object], stuck: &[usize]) -> String {
    let stuck_set: HashSet<usize> = stuck.iter().copied().collect();
    let mut way: Vec<usize> = Vec::new();
    let mut at = stuck.first().copied();
    while let Some(i) = at {
        if let Some(start) = way.iter().position(|&w| w == i) {
            let names: Vec<String> = way[start..]
                .iter()
                .chain([&i])
                .map(|&w| objects[w].to_string())
                .collect();
            return format!(
                "owners go round in a circle: {}",
                names.join(" is owned by ")
            );
        }
        way.push(i);
        at = graph.owners[i]
            .iter()
            .copied()
            .find(|o| stuck_set.contains(o));
    }
    format!("{} objects cannot be put in order", stuck.len())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
