//! Forms of strings in the document: a pattern with the words that describe it, and the rules that an API server checks. Must not contain logic.

use schemars::{Schema, transform::Transform};
use serde_json::{Value, json};

/// Form of a string; a transform that writes it into the field's schema.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// Longest length in characters.
    max: u64,
    /// Understood alike by Rust, Go and JavaScript.
    pattern: &'static str,
    /// Its description, as it follows "expected ". Editors show it too.
    says: &'static str,
}

impl Form {
    const fn new(max: u64, pattern: &'static str, says: &'static str) -> Self {
        Self { max, pattern, says }
    }

    /// The pattern alone.
    pub(super) fn pattern(self) -> &'static str {
        self.pattern
    }

    /// Its description.
    pub(super) fn says(self) -> &'static str {
        self.says
    }

    /// Schema of a string of this form.
    pub(super) fn schema(self) -> Schema {
        let mut schema = schemars::json_schema!({ "type": "string" });
        let mut form = self;
        form.transform(&mut schema);
        schema
    }

    /// The same with an example.
    pub(super) fn example(self, example: &str) -> Schema {
        let mut schema = self.schema();
        schema.insert("examples".into(), json!([example]));
        schema
    }
}

/// For `#[schemars(transform = …)]`, which wants a value of its own.
pub(super) fn form(form: Form) -> Form {
    form
}

impl Transform for Form {
    fn transform(&mut self, schema: &mut Schema) {
        schema.insert("maxLength".into(), self.max.into());
        schema.insert("pattern".into(), self.pattern.into());
        schema.insert("patternErrorMessage".into(), self.says.into());
    }
}

/// A list whose items are told apart by this field; a transform.
pub(super) struct ListKey(pub(super) &'static str);

impl Transform for ListKey {
    fn transform(&mut self, schema: &mut Schema) {
        schema.insert("x-kubernetes-list-type".into(), "map".into());
        schema.insert("x-kubernetes-list-map-keys".into(), json!([self.0]));
    }
}

/// An object with exactly one of its fields; a transform.
pub(super) fn one_of(schema: &mut Schema) {
    schema.insert("minProperties".into(), 1.into());
    schema.insert("maxProperties".into(), 1.into());
}

/// Longest name of a management cluster; names of machines and containers are built from it (see `ClusterName`).
pub(super) const NAME_MAX: u64 = 35;
/// Longest sum of cluster and pool name: machines are called `<cluster>-<pool>-xxxxx-xxxxx`, in at most 63 characters.
pub(super) const NAMES_MAX: usize = 50;

pub(super) const NAME: Form = Form::new(
    NAME_MAX,
    r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
    "lower-case letters, digits and `-`, beginning with a letter and not ending with `-`",
);
/// Name of a node pool; [`NAMES_MAX`] limits it together with the cluster's.
pub(super) const POOL_NAME: Form = Form::new(40, NAME.pattern, NAME.says);
pub(super) const LABEL: Form = Form::new(
    63,
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    "lower-case letters, digits and `-`, not at the ends",
);
pub(super) const DOMAIN: Form = Form::new(
    253,
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "a DNS name: lower-case letters, digits, `-` and `.`",
);
pub(super) const VERSION: Form = Form::new(
    16,
    r"^v1\.[0-9]{1,3}\.[0-9]{1,3}$",
    "a full version with a leading `v`, such as `v1.36.3`",
);
pub(super) const IMAGE: Form = Form::new(
    255,
    r"^([a-zA-Z0-9.-]+(:[0-9]{1,5})?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*(@sha256:[a-f0-9]{64})?|@sha256:[a-f0-9]{64})$",
    "an image with a tag or digest, such as `docker.io/kindest/node:v1.36.3`",
);
pub(super) const HOST_PATH: Form = Form::new(255, r"^/[^:]*$", "an absolute path without `:`");
pub(super) const MOUNT_PATH: Form = Form::new(
    255,
    r"^(/[^/:]+)+$",
    "an absolute path below `/`, without `:` and without a `/` at the end",
);
pub(super) const LABEL_VALUE: Form = Form::new(
    63,
    r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
    "letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit",
);
pub(super) const GIT_URL: Form = Form::new(
    255,
    r"^(https?|ssh)://([^\s/@]+@)?[A-Za-z0-9.-]+(:[0-9]{1,5})?/[^\s?#]+$",
    "a repository address such as `https://git.example.io/acme/golem.git` or `ssh://git@git.example.io/acme/golem.git`",
);
pub(super) const BRANCH: Form = Form::new(
    200,
    r"^[^\s~^:?*\[\\]+$",
    "a branch name without spaces or any of `~^:?*[\\`",
);
pub(super) const FOLDER: Form = Form::new(
    255,
    r"^(\./[^/].*|\./|[^/.].*|\.[^/.].*)$",
    "a folder below the root, such as `./clusters/golem`",
);
pub(super) const OCI_URL: Form = Form::new(
    255,
    r"^oci://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$",
    "an artifact address without tag, such as `oci://registry.example.io/acme/golem`",
);
pub(super) const TAG: Form = Form::new(
    128,
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
    "a tag: letters, digits, `_`, `.` and `-`",
);
pub(super) const REGISTRY_HOST: Form = Form::new(
    253,
    r"^(\*|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?)$",
    "a registry host such as `registry.k8s.io`, or `*`",
);
pub(super) const ENDPOINT: Form = Form::new(
    255,
    r"^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[^\s?#]*)?$",
    "an address such as `https://mirror.example.io`",
);
pub(super) const CIDR: Form = Form::new(
    18,
    r"^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}/[0-9]{1,2}$",
    "an IPv4 range such as `10.128.0.0/16`",
);

/// Rules of the network, for API servers. `validate` has the same and more.
pub(super) fn network_rules() -> Value {
    json!([
        {
            "rule": "isCIDR(self.podCidr) && isCIDR(self.serviceCidr)",
            "message": "podCidr and serviceCidr must be valid ranges",
        },
        {
            "rule": "!isCIDR(self.podCidr) || !isCIDR(self.serviceCidr) || (!cidr(self.podCidr).containsCIDR(self.serviceCidr) && !cidr(self.serviceCidr).containsCIDR(self.podCidr))",
            "message": "podCidr and serviceCidr must not overlap",
        },
        {
            "rule": "self == oldSelf",
            "message": "the network cannot be changed after the cluster was made",
        },
    ])
}

/// Rules of a Git source, for API servers.
pub(super) fn git_rules() -> Value {
    json!([{
        "rule": "!self.url.startsWith('ssh://') || has(self.secretRef)",
        "message": "an ssh:// address needs secretRef with the key",
    }])
}

/// Rules of the whole object, for API servers.
pub(super) fn root_rules() -> Value {
    json!([{
        "rule": format!("self.spec.nodePools.all(p, size(self.metadata.name) + size(p.name) <= {NAMES_MAX})"),
        "message": format!("the names of the cluster and of a node pool must have at most {NAMES_MAX} characters together"),
    }])
}

/// What the settings of components look like.
pub(super) fn components_example() -> Value {
    json!({
        "kyverno": { "enabled": true, "values": { "admissionController": { "replicas": 3 } } },
    })
}
