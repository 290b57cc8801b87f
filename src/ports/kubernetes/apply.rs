//! Server-side apply: without force first, so that whoever owns a field is named before it is taken over. Must not know which
//! objects matter.

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    api::{Patch, PatchParams},
    core::{DynamicObject, Status},
};

use super::{Cluster, Progress, gvk, kind};
use crate::Result;

/// Requests in flight to one API server.
const PARALLEL: usize = 16;

impl Cluster {
    /// Server-side apply under mctl's field manager. Fields that others own are taken over, and they are named. Passing errors
    /// (webhook or CRD not there yet, server busy or away) are retried and shown.
    pub async fn apply(
        &self,
        object: &DynamicObject,
        progress: &dyn Progress,
    ) -> Result<DynamicObject> {
        let gvk = gvk(object)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let namespace = object.metadata.namespace.as_deref();
        let gentle = PatchParams::apply(self.field_manager);
        let applied = self
            .retrying("apply", &gvk, namespace, &name, progress, || async {
                let api = self.api(&gvk, namespace).await?;
                match api.patch(&name, &gentle, &Patch::Apply(object)).await {
                    Ok(object) => Ok(Ok(object)),
                    Err(kube::Error::Api(status)) => match owners(&status) {
                        Some(owners) => Ok(Err(owners)),
                        None => Err(kube::Error::Api(status)),
                    },
                    Err(e) => Err(e),
                }
            })
            .await?;
        let owners = match applied {
            Ok(object) => return Ok(object),
            Err(owners) => owners,
        };
        progress.seen(&format!(
            "{} {name}: takes over what {owners} had set",
            gvk.kind
        ));
        let force = PatchParams::apply(self.field_manager).force();
        self.retrying("apply", &gvk, namespace, &name, progress, || async {
            self.api(&gvk, namespace)
                .await?
                .patch(&name, &force, &Patch::Apply(object))
                .await
        })
        .await
    }

    /// Applies a set: namespaces, then CRDs, then the rest in parallel. Objects of a kind that is not served yet are tried
    /// again until it is; a CRD that says it is established would not spare that, for discovery follows later.
    pub async fn apply_all(
        &self,
        objects: &[DynamicObject],
        progress: &dyn Progress,
    ) -> Result<Vec<DynamicObject>> {
        let (first, rest): (Vec<_>, Vec<_>) = objects.iter().partition(|o| kind(o) == "Namespace");
        let (crds, rest): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|o| kind(o) == "CustomResourceDefinition");
        let mut done = Vec::with_capacity(objects.len());
        for group in [first, crds, rest] {
            let work: Vec<_> = group.into_iter().map(|o| self.apply(o, progress)).collect();
            let results: Vec<DynamicObject> = stream::iter(work)
                .buffer_unordered(PARALLEL)
                .try_collect()
                .await?;
            done.extend(results);
        }
        Ok(done)
    }
}

/// Field managers that an apply is in conflict with; `None` if it failed for another reason.
fn owners(status: &Status) -> Option<String> {
    let causes = &status.details.as_ref()?.causes;
    let mut owners: Vec<&str> = causes
        .iter()
        .filter(|c| c.reason == "FieldManagerConflict")
        .map(|c| c.message.split('"').nth(1).unwrap_or(&c.message))
        .collect();
    owners.sort_unstable();
    owners.dedup();
    (status.code == 409 && !owners.is_empty()).then(|| owners.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_named_once_and_other_conflicts_have_none() {
        let status = |causes: serde_json::Value| -> Status {
            serde_json::from_value(serde_json::json!({
                "status": "Failure", "code": 409, "reason": "Conflict", "message": "",
                "details": {"name": "x", "causes": causes},
            }))
            .unwrap()
        };
        let conflict = |who: &str| serde_json::json!({"reason": "FieldManagerConflict", "message": format!("conflict with \"{who}\" using v1"), "field": ".spec"});
        let two = status(serde_json::json!([
            conflict("kubectl"),
            conflict("helm"),
            conflict("helm")
        ]));
        assert_eq!(owners(&two).as_deref(), Some("helm, kubectl"));
        assert_eq!(owners(&status(serde_json::json!([]))), None);
    }
}
