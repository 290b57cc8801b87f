//! Requests that act on exactly the state of an object that the caller has seen, or not at all. Must not decide what to do when it has changed.

use kube::{
    api::{ApiResource, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::{DynamicObject, GroupVersionKind, ObjectMeta, Status},
    discovery::Scope,
};

use super::{Cluster, Progress, gvk};
use crate::Result;

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// Result of a request with a precondition.
#[derive(Clone, Debug, PartialEq)]
pub enum Exact<T> {
    /// It was done.
    Done(T),
    /// The object is another one by now, or has another state; nothing was done.
    Changed,
    /// There is no such object; nothing was done.
    Gone,
}

impl Cluster {
    /// Tells plural name and scope of a kind, which saves asking the server.
    pub fn know(&self, resource: ApiResource, scope: Scope) {
        let gvk = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
        self.kinds
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(gvk, (resource, scope));
    }

    /// All objects of a kind, page by page with retries, each reduced by `map` at once so that a big list stays small.
    /// `None` when the server does not know the kind.
    pub async fn list_map<T: Send>(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        selector: Option<&str>,
        progress: &dyn Progress,
        map: impl Fn(DynamicObject) -> Option<T> + Send + Sync,
    ) -> Result<Option<Vec<T>>> {
        let mut all = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = selector.map(str::to_owned);
        loop {
            let page = self
                .retrying("list", gvk, namespace, "", progress, || async {
                    match self.api(gvk, namespace).await?.list(&params).await {
                        Ok(page) => Ok(Some(page)),
                        Err(kube::Error::Api(s)) if s.code == 410 || s.code == 404 => Ok(None),
                        Err(e) => Err(e),
                    }
                })
                .await?;
            match page {
                // The server forgot the state that the list began with: begin again.
                None if params.continue_token.is_some() => {
                    params.continue_token = None;
                    all.clear();
                }
                None => return Ok(None),
                Some(page) => {
                    all.extend(page.items.into_iter().filter_map(&map));
                    params.continue_token = page.metadata.continue_.filter(|c| !c.is_empty());
                    if params.continue_token.is_none() {
                        return Ok(Some(all));
                    }
                }
            }
        }
    }

    /// One object with retries, or `None`.
    pub async fn read(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<Option<DynamicObject>> {
        let found = self
            .retrying("read", gvk, namespace, name, progress, || async {
                exact(self.api(gvk, namespace).await?.get(name).await, false)
            })
            .await?;
        Ok(match found {
            Exact::Done(object) => Some(object),
            Exact::Changed | Exact::Gone => None,
        })
    }

    /// Creates an object; `None` when there is one of that name already.
    pub async fn create(
        &self,
        object: &DynamicObject,
        progress: &dyn Progress,
    ) -> Result<Option<DynamicObject>> {
        let gvk = gvk(object)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let namespace = object.metadata.namespace.as_deref();
        self.retrying("create", &gvk, namespace, &name, progress, || async {
            match self
                .api(&gvk, namespace)
                .await?
                .create(&self.post(), object)
                .await
            {
                Ok(new) => Ok(Some(new)),
                Err(kube::Error::Api(s)) if s.reason == "AlreadyExists" => Ok(None),
                Err(e) => Err(e),
            }
        })
        .await
    }

    /// Replaces an object; UID and resource version in it are the precondition.
    pub async fn replace(
        &self,
        object: &DynamicObject,
        progress: &dyn Progress,
    ) -> Result<Exact<DynamicObject>> {
        let gvk = gvk(object)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let namespace = object.metadata.namespace.as_deref();
        self.retrying("replace", &gvk, namespace, &name, progress, || async {
            let api = self.api(&gvk, namespace).await?;
            exact(
                api.replace(&name, &self.post(), object).await,
                conditional(&object.metadata),
            )
        })
        .await
    }

    /// JSON merge patch; `metadata.uid` and `metadata.resourceVersion` in the patch are the precondition.
    pub async fn merge_exact(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
        patch: &serde_json::Value,
        progress: &dyn Progress,
    ) -> Result<Exact<DynamicObject>> {
        let params = PatchParams {
            field_manager: Some(self.field_manager.into()),
            ..PatchParams::default()
        };
        let given = |field| patch.pointer(field).is_some_and(|v| !v.is_null());
        let conditional = given("/metadata/uid") || given("/metadata/resourceVersion");
        self.retrying("patch", gvk, namespace, name, progress, || async {
            let api = self.api(gvk, namespace).await?;
            match api.patch(name, &params, &Patch::Merge(patch)).await {
                Err(kube::Error::Api(s)) if has_another_uid(&s) => Ok(Exact::Changed),
                answer => exact(answer, conditional),
            }
        })
        .await
    }

    /// Deletes exactly this state of an object (UID and resource version, as far as it has them). `Done(Some(_))` is what
    /// finalizers still hold.
    pub async fn delete_exact(
        &self,
        object: &DynamicObject,
        progress: &dyn Progress,
    ) -> Result<Exact<Option<DynamicObject>>> {
        let gvk = gvk(object)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let namespace = object.metadata.namespace.as_deref();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.metadata.uid.clone(),
                resource_version: object.metadata.resource_version.clone(),
            }),
            ..DeleteParams::background()
        };
        self.retrying("delete", &gvk, namespace, &name, progress, || async {
            let answer = self
                .api(&gvk, namespace)
                .await?
                .delete(&name, &params)
                .await;
            exact(answer.map(|a| a.left()), conditional(&object.metadata))
        })
        .await
    }

    fn post(&self) -> PostParams {
        PostParams {
            field_manager: Some(self.field_manager.into()),
            ..PostParams::default()
        }
    }
}

/// True when a request with this metadata has a precondition.
fn conditional(meta: &ObjectMeta) -> bool {
    meta.uid.is_some() || meta.resource_version.is_some()
}

/// A patch that names a UID is no precondition to the API server but the attempt to change it.
fn has_another_uid(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|d| &d.causes);
    status.code == 422 && status.reason == "Invalid" && causes.any(|c| c.field == "metadata.uid")
}

/// Missing objects are answers here, not errors, and so are conflicts where there was a precondition; other conflicts pass.
/// A 404 without an object's name means an unknown kind.
fn exact<T>(answer: Result<T, kube::Error>, conditional: bool) -> Result<Exact<T>, kube::Error> {
    match answer {
        Ok(value) => Ok(Exact::Done(value)),
        Err(kube::Error::Api(s)) if conditional && s.code == 409 && s.reason == "Conflict" => {
            Ok(Exact::Changed)
        }
        Err(kube::Error::Api(s))
            if s.code == 404 && s.details.as_ref().is_some_and(|d| !d.name.is_empty()) =>
        {
            Ok(Exact::Gone)
        }
        Err(e) => Err(e),
    }
}
