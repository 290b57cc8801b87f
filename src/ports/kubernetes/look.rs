//! Reading. A look is one request and says what it could not see; `get` and `list` try again for a moment. Must not change anything.

use std::time::Duration;

use kube::{
    api::ListParams,
    core::{DynamicObject, GroupVersionKind},
};

use super::{Cluster, Request, is_unknown_kind, short, typed};
use crate::{Error, Result, ports::Seen};

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long a look that fails for a passing reason is repeated.
const AGAIN: Duration = Duration::from_secs(20);
/// Objects of one page of a list.
const PAGE: u32 = 500;

impl Cluster {
    /// Looks once for one object. A kind that the server does not know has no objects.
    pub async fn look(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
    ) -> Seen<DynamicObject> {
        let to = Request {
            verb: "read",
            gvk,
            namespace,
            name,
        };
        self.once(&to, self.one(gvk, namespace, name)).await.into()
    }

    /// Looks once for all objects of a kind; [`Seen::Absent`] when the server does not know it.
    pub async fn look_at_all(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Seen<Vec<DynamicObject>> {
        let to = Request {
            verb: "list",
            gvk,
            namespace,
            name: "",
        };
        self.once(&to, self.all(gvk, namespace, selector))
            .await
            .into()
    }

    /// One object, or `None`.
    pub async fn get(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<DynamicObject>> {
        let to = Request {
            verb: "read",
            gvk,
            namespace,
            name,
        };
        self.repeat(&to, LOOK, AGAIN, &(), || self.one(gvk, namespace, name))
            .await
    }

    /// All objects of a kind; `None` when the server does not know the kind.
    pub async fn list(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Option<Vec<DynamicObject>>> {
        let to = Request {
            verb: "list",
            gvk,
            namespace,
            name: "",
        };
        self.repeat(&to, LOOK, AGAIN, &(), || self.all(gvk, namespace, selector))
            .await
    }

    /// Version of the API server, by one look.
    pub async fn version(&self) -> Result<String> {
        let failed = |why: String| {
            Error::failed(format!("the {} does not answer", self.name))
                .because(why)
                .fix("see that its API server runs, then run the same command again")
                .passing()
        };
        match tokio::time::timeout(LOOK, self.client.apiserver_version()).await {
            Ok(Ok(version)) => Ok(version.git_version),
            Ok(Err(e)) => Err(failed(short(&e))),
            Err(_) => Err(failed(format!("no answer within {} s", LOOK.as_secs()))),
        }
    }

    async fn once<T>(
        &self,
        to: &Request<'_>,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T> {
        match tokio::time::timeout(LOOK, request).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err(self.error(to.verb, &to.gvk.kind, to.namespace, to.name, &e)),
            Err(_) => Err(Error::failed(format!(
                "cannot {} {}",
                to.verb,
                self.place(&to.gvk.kind, to.namespace, to.name)
            ))
            .because(format!("no answer within {} s", LOOK.as_secs()))
            .passing()),
        }
    }

    async fn one(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<DynamicObject>, kube::Error> {
        match self.api(gvk, namespace).await {
            Ok(api) => Ok(api.get_opt(name).await?.map(|o| typed(o, gvk))),
            Err(e) if is_unknown_kind(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn all(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Option<Vec<DynamicObject>>, kube::Error> {
        let api = match self.api(gvk, namespace).await {
            Ok(api) => api,
            Err(e) if is_unknown_kind(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = selector.map(str::to_owned);
        let mut all = Vec::new();
        loop {
            let page = api.list(&params).await?;
            all.extend(page.items.into_iter().map(|o| typed(o, gvk)));
            match page.metadata.continue_.filter(|c| !c.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return Ok(Some(all)),
            }
        }
    }
}
