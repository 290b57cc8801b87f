//! Which Cluster API objects that mctl once rendered serve nothing any more: templates named by their content, and the health
//! checks of removed pools. Pure.

use std::collections::HashSet;

use kube::core::DynamicObject;
use serde_json::Value;

use super::{document::POOL_LABEL, status::belongs};
use crate::ports::kubernetes::{
    kind,
    objects::{key, name},
};

/// Kind of the health checks.
pub const HEALTH_CHECK: &str = "MachineHealthCheck";

/// Objects to delete: of `found`, those of this cluster that are neither rendered now nor named by any of `users` (all
/// MachineDeployments, MachineSets and control planes there are, whoever's they may be).
pub fn leftovers(
    cluster: &str,
    rendered: &[DynamicObject],
    found: &[DynamicObject],
    users: &[DynamicObject],
) -> Vec<DynamicObject> {
    let wanted: HashSet<(&str, String)> = rendered.iter().map(|o| (kind(o), key(o))).collect();
    let mut named = HashSet::new();
    for user in users.iter().chain(rendered) {
        references(&user.data, &mut named);
    }
    found
        .iter()
        .filter(|o| o.metadata.deletion_timestamp.is_none())
        .filter(|o| belongs(o, cluster) && !wanted.contains(&(kind(o), key(o))))
        .filter(|o| match kind(o) {
            HEALTH_CHECK => is_of_pool(o),
            _ => is_named_by_content(name(o)) && !named.contains(&(kind(o), name(o))),
        })
        .cloned()
        .collect()
}

fn is_of_pool(object: &DynamicObject) -> bool {
    let labels = object.metadata.labels.as_ref();
    labels.is_some_and(|l| l.contains_key(POOL_LABEL))
}

/// What rendering appends: a dash and eight hexadecimal digits.
fn is_named_by_content(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, digest)| {
        digest.len() == 8 && digest.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Every `{kind, name}` somewhere in a value.
fn references<'a>(value: &'a Value, to: &mut HashSet<(&'a str, &'a str)>) {
    match value {
        Value::Object(map) => {
            let text = |field: &str| map.get(field).and_then(Value::as_str);
            if let (Some(kind), Some(name)) = (text("kind"), text("name")) {
                to.insert((kind, name));
            }
            map.values().for_each(|v| references(v, to));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, extra: &Value) -> DynamicObject {
        let mut o = json!({"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name,
            "namespace": "org-giantswarm", "labels": {"cluster.x-k8s.io/cluster-name": "golem"}}});
        crate::catalog::template::merge(&mut o, extra);
        serde_json::from_value(o).unwrap()
    }

    fn uses(template: &str) -> Value {
        json!({"spec": {"template": {"spec": {"infrastructureRef": {"kind": "Template", "name": template}}}}})
    }

    #[test]
    fn only_what_nothing_names_any_more_goes() {
        let none = json!({});
        let pool = json!({"metadata": {"labels": {POOL_LABEL: "a"}}});
        let rendered = [
            object("Template", "golem-a-11111111", &none),
            object("MachineDeployment", "golem-a-1", &uses("golem-a-11111111")),
            object(HEALTH_CHECK, "golem-a", &pool),
        ];
        let users = [
            object("MachineSet", "golem-a-1-x", &uses("golem-a-22222222")),
            object("MachineDeployment", "other", &uses("golem-a-44444444")),
        ];
        let other = json!({"metadata": {"labels": {"cluster.x-k8s.io/cluster-name": "other"}}});
        let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let found = [
            object("Template", "golem-a-11111111", &none),
            object("Template", "golem-a-22222222", &none),
            object("Template", "golem-a-33333333", &none),
            object("Template", "golem-a-44444444", &none),
            object("Template", "golem-a-55555555", &other),
            object("Template", "golem-a-66666666", &leaving),
            object("Template", "golem-a-by-hand", &none),
            object("Template", "golem-a-abc", &none),
            object("OtherTemplate", "golem-a-11111111", &none),
            object(HEALTH_CHECK, "golem-a", &pool),
            object(HEALTH_CHECK, "golem-b", &pool),
            object(HEALTH_CHECK, "golem-by-hand", &none),
        ];
        let gone = leftovers("golem", &rendered, &found, &users);
        let gone: Vec<_> = gone.iter().map(|o| (kind(o), name(o))).collect();
        assert_eq!(
            gone,
            [
                ("Template", "golem-a-33333333"),
                ("OtherTemplate", "golem-a-11111111"),
                (HEALTH_CHECK, "golem-b"),
            ]
        );
    }
}
