//! What an open move writes on objects, and what others have to make of it: who keeps a Cluster's objects asks here before each
//! write. Pure; must not talk to a cluster.
//!
//! Marks are the second record of a move, beside its journal: with them a journal that is lost is made again. A pause of a
//! person carries none and stays a pause.

use kube::core::DynamicObject;
use serde_json::Value;

use super::object::PAUSED;

/// Annotation on what a move has paused; its value is the UID of the target cluster.
pub const PAUSED_FOR_MOVE: &str = "mctl.giantswarm.io/paused-for-move";
/// Annotation on a copy: the UID that the object has in the source.
pub const SOURCE_UID: &str = "mctl.giantswarm.io/source-uid";
/// Annotation on a copy: the UID of the source cluster (that of its namespace `kube-system`).
pub const SOURCE_CLUSTER: &str = "mctl.giantswarm.io/source-cluster";
/// All of them.
pub const ALL: [&str; 3] = [PAUSED_FOR_MOVE, SOURCE_UID, SOURCE_CLUSTER];

/// Where a copy came from, as its marks say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// UID of the source cluster.
    pub cluster: String,
    /// UID of the object there.
    pub uid: String,
}

/// An annotation of an object.
fn annotation<'a>(object: &'a DynamicObject, name: &str) -> Option<&'a str> {
    let annotations = object.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// Where an object came from, if the move that brought it is still open.
pub fn origin(object: &DynamicObject) -> Option<Origin> {
    Some(Origin {
        cluster: annotation(object, SOURCE_CLUSTER)?.to_owned(),
        uid: annotation(object, SOURCE_UID)?.to_owned(),
    })
}

/// True while a move holds this object, in the source or in the target. A pause alone does not say so.
pub fn is_moving(object: &DynamicObject) -> bool {
    ALL.iter().any(|mark| annotation(object, mark).is_some())
}

/// True when it is paused, by field or annotation, whoever did it.
pub fn is_paused(object: &DynamicObject) -> bool {
    object.data.pointer("/spec/paused") == Some(&Value::Bool(true))
        || annotation(object, PAUSED).is_some()
}

/// Why nobody may write to a Cluster and to what belongs to it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// In CamelCase, for conditions: `NotMoved`, `Moving`, `Deleting`, `Paused`.
    pub reason: &'static str,
    /// For people.
    pub why: String,
}

/// Whether a Cluster and what belongs to it may be written to, judged by the Cluster as it is now. Whoever keeps such objects
/// reads the Cluster again and asks before each write, for a move may begin at any time; and what was there before is
/// written with [`only`], so that nothing that a move took is made anew.
pub fn may_write(name: &str, cluster: Option<&DynamicObject>) -> Result<(), Held> {
    let held = |reason, why| Err(Held { reason, why });
    let Some(cluster) = cluster else {
        let why = format!("there is no Cluster {name} here; its objects are not touched");
        return held("NotMoved", why);
    };
    if is_moving(cluster) {
        return held("Moving", format!("Cluster {name} is being moved"));
    }
    if cluster.metadata.deletion_timestamp.is_some() {
        return held("Deleting", format!("Cluster {name} is being deleted"));
    }
    if is_paused(cluster) {
        return held("Paused", format!("Cluster {name} is paused"));
    }
    Ok(())
}

/// The object as it is wanted, to be written to this very object or not at all: the API server refuses to apply or replace
/// what names a UID that is not there (any more), instead of making it.
#[must_use]
pub fn only(live: &DynamicObject, mut wanted: DynamicObject) -> DynamicObject {
    wanted.metadata.uid.clone_from(&live.metadata.uid);
    wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(annotations: Value, paused: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {"name": "golem", "namespace": "n", "uid": "u", "annotations": annotations},
            "spec": {"paused": paused},
        }))
        .unwrap()
    }

    #[test]
    fn a_persons_pause_is_no_move() {
        let paused = cluster(json!({}), json!(true));
        assert!(is_paused(&paused) && !is_moving(&paused));
        assert_eq!(
            may_write("golem", Some(&paused)).unwrap_err().reason,
            "Paused"
        );
        let paused = cluster(json!({PAUSED: ""}), json!(null));
        assert!(is_paused(&paused) && !is_moving(&paused));
        let free = cluster(json!({}), json!(false));
        assert_eq!(may_write("golem", Some(&free)), Ok(()));
        assert_eq!(may_write("golem", None).unwrap_err().reason, "NotMoved");
    }

    #[test]
    fn each_mark_alone_says_that_it_moves() {
        for mark in ALL {
            let moving = cluster(json!({mark: "x"}), json!(null));
            assert!(is_moving(&moving), "{mark}");
            assert_eq!(
                may_write("golem", Some(&moving)).unwrap_err().reason,
                "Moving"
            );
        }
    }

    #[test]
    fn marks_tell_where_it_came_from() {
        let copy = cluster(json!({SOURCE_UID: "a", SOURCE_CLUSTER: "b"}), json!(true));
        let origin = origin(&copy).unwrap();
        assert_eq!((origin.uid.as_str(), origin.cluster.as_str()), ("a", "b"));
        let wanted = only(&copy, cluster(json!({}), json!(null)));
        assert_eq!(wanted.metadata.uid.as_deref(), Some("u"));
    }
}
