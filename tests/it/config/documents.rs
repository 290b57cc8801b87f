//! Any valid document survives being written and read, and reader and JSON Schema agree.

use std::{collections::BTreeMap, sync::LazyLock};

use kube::core::ObjectMeta;
use mctl::config::{self, *};
use proptest::{option, prelude::*, sample::select};
use serde_json::{Value, json};

fn label() -> impl Strategy<Value = String> {
    "[a-z]([-a-z0-9]{0,18}[a-z0-9])?"
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = "(example\\.io/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?";
    let value = "(([A-Za-z0-9][-A-Za-z0-9_.]{0,20})?[A-Za-z0-9])?";
    prop::collection::btree_map(key, value, 0..4)
}

/// Lists whose items differ by a key.
fn unique<T: Clone + std::fmt::Debug>(
    item: impl Strategy<Value = T>,
    key: fn(&T) -> &str,
) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(item, 0..4).prop_map(move |items| {
        let mut seen = Vec::new();
        items
            .into_iter()
            .filter(|i| {
                let new = !seen.contains(&key(i).to_owned());
                seen.push(key(i).to_owned());
                new
            })
            .collect()
    })
}

fn free() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        select(vec![
            "",
            "no",
            "0644",
            "a: b",
            "{{ x }}",
            "two\nlines\n",
            "text"
        ])
        .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z:# ]{0,6}", inner, 0..3).prop_map(|m| json!(m)),
        ]
    });
    prop::collection::btree_map("[a-zA-Z]{1,8}", tree, 0..3).prop_map(|m| json!(m))
}

fn source() -> impl Strategy<Value = CustomerSource> {
    let folder = || select(vec!["./", "./clusters/golem", "clusters", ".hidden"]);
    let git = (
        select(vec![
            "https://git.example.io/a/b.git",
            "ssh://git@git.example.io:22/a/b",
            "http://git/a",
        ]),
        "[a-z][a-z/]{0,10}",
        folder(),
        option::of(label()),
    )
        .prop_map(|(url, branch, path, secret)| CustomerSource {
            git: Some(GitSource {
                url: url.into(),
                branch,
                path: path.into(),
                secret_ref: secret.or(url.starts_with("ssh").then(|| "key".into())),
            }),
            oci: None,
        });
    let oci = (
        folder(),
        "[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}",
        option::of(label()),
    )
        .prop_map(|(path, tag, secret_ref)| CustomerSource {
            git: None,
            oci: Some(OciSource {
                url: "oci://registry.example.io:5000/a/b".into(),
                tag,
                path: path.into(),
                secret_ref,
            }),
        });
    prop_oneof![git, oci]
}

fn spec() -> impl Strategy<Value = ManagementClusterSpec> {
    let pool =
        (label(), 0..=20_u32, labels()).prop_filter_map("reserved", |(name, replicas, labels)| {
            (name != "control-plane").then_some(NodePool {
                name,
                replicas,
                labels,
            })
        });
    let mount = ("/[a-z]{1,9}", "/var/mnt/[a-z]{1,9}", any::<bool>()).prop_map(
        |(host_path, container_path, read_only)| ExtraMount {
            host_path,
            container_path,
            read_only,
        },
    );
    let mirror = (
        select(vec!["*", "docker.io", "registry.k8s.io", "a.io:5000"]),
        1..3_usize,
    )
        .prop_map(|(upstream, n)| Mirror {
            upstream: upstream.into(),
            endpoints: (0..n)
                .map(|n| format!("https://mirror{n}.example.io/v2"))
                .collect(),
        });
    let component = (option::of(any::<bool>()), option::of(free()))
        .prop_map(|(enabled, values)| ComponentSettings { enabled, values });
    let docker = unique(mount, |m| &m.container_path).prop_map(|extra_mounts| DockerProvider {
        node_image: Some("docker.io/kindest/node:v1.36.3".into()),
        extra_mounts,
    });
    (
        (option::of(label()), option::of("[a-z]{1,9}\\.[a-z]{2,9}")),
        docker,
        any::<bool>(),
        select(vec![1, 3_u32]),
        unique(pool, |p| &p.name),
        option::of(source()),
        unique(mirror, |m| &m.upstream),
        prop::collection::btree_map("[a-z][a-z-]{0,8}[a-z]", component, 0..3),
        0..200_u8,
    )
        .prop_map(
            |(
                (customer, base_domain),
                docker,
                version,
                replicas,
                node_pools,
                customer_source,
                mirrors,
                components,
                n,
            )| {
                ManagementClusterSpec {
                    customer,
                    base_domain,
                    provider: ProviderSpec {
                        docker: Some(docker),
                    },
                    kubernetes_version: version.then(|| "v1.36.3".into()),
                    control_plane: ControlPlane { replicas },
                    node_pools,
                    gitops: Gitops {
                        customer: customer_source,
                    },
                    registry: Registry { mirrors },
                    network: Network {
                        pod_cidr: format!("10.{}.0.0/16", n),
                        service_cidr: format!("10.{}.16.0/20", n + 1),
                    },
                    components,
                }
            },
        )
}

fn document() -> impl Strategy<Value = ManagementCluster> {
    (label(), option::of(labels()), any::<bool>(), spec()).prop_map(|(name, labels, ns, spec)| {
        let mut document = ManagementCluster::new(&name, spec);
        document.metadata = ObjectMeta {
            name: Some(name),
            namespace: ns.then(|| "giantswarm".into()),
            labels,
            ..ObjectMeta::default()
        };
        document
    })
}

fn fits_schema(value: &Value) -> bool {
    static SCHEMA: LazyLock<jsonschema::Validator> =
        LazyLock::new(|| jsonschema::validator_for(&config::schema()).unwrap());
    SCHEMA.is_valid(value)
}

/// A change somewhere in a document.
fn mutate(value: &mut Value, seed: &mut u64, with: &Value) {
    let mut pick = |n: usize| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*seed >> 33) as usize % n.max(1)
    };
    let choice = pick(4);
    match value {
        Value::Object(fields) if !fields.is_empty() && choice > 0 => {
            let key = fields.keys().nth(pick(fields.len())).unwrap().clone();
            match (choice, pick(3)) {
                (1, 0) => {
                    fields.remove(&key);
                }
                (1, _) => {
                    let value = fields.remove(&key).unwrap();
                    fields.insert(format!("{key}x"), value);
                }
                _ => mutate(fields.get_mut(&key).unwrap(), seed, with),
            }
        }
        Value::Array(items) if !items.is_empty() && choice > 0 => {
            let n = pick(items.len());
            mutate(&mut items[n], seed, with);
        }
        value => *value = with.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn valid_documents_survive(document in document()) {
        let yaml = config::to_yaml(&document).unwrap();
        let read = config::load(&yaml, "mc.yaml").map_err(|p| TestCaseError::fail(format!("{p}\n{yaml}")))?;
        prop_assert_eq!(&read, &document);
        prop_assert!(config::validate::<&str>(&document, &[]).is_empty());
        prop_assert!(fits_schema(&serde_json::to_value(&document).unwrap()));
    }

    /// What the JSON Schema refuses, the reader refuses; and the reader always ends with a place for every problem.
    #[test]
    fn the_reader_is_no_laxer_than_the_schema(
        document in document(),
        mut seed in any::<u64>(),
        with in prop_oneof![free(), any::<i32>().prop_map(Value::from), ".{0,5}".prop_map(Value::from), Just(json!([])), Just(json!(true))],
    ) {
        let mut value = serde_json::to_value(&document).unwrap();
        mutate(&mut value, &mut seed, &with);
        let yaml = config::to_yaml(&value).unwrap();
        match config::load(&yaml, "mc.yaml") {
            Ok(_) => prop_assert!(fits_schema(&value), "{}", yaml),
            Err(problems) => {
                let lines = yaml.lines().count();
                for p in problems.list() {
                    let span = p.span.unwrap_or(Span { line: 1, column: 1, len: 1 });
                    prop_assert!(span.line >= 1 && span.line <= lines && span.column >= 1, "{} {}", p, yaml);
                    prop_assert!(!p.fix.is_empty() && !p.what.is_empty());
                }
            }
        }
    }

    /// Words in quotes or not: the reader ends, and never with a panic.
    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|\n|  |: |- |#|\"|'|\\{|\\[|&a |\\*a|!|\\||>|\t|\r){0,60}") {
        let _ = config::load(&text, "mc.yaml").map_err(|p| p.to_string());
    }
}

#[test]
fn the_name_alone_is_enough() {
    let text = "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {name: golem}\n";
    let document = config::load(text, "mc.yaml").unwrap();
    assert_eq!(
        document,
        ManagementCluster::new("golem", ManagementClusterSpec::default())
    );
    for other in [
        format!("\u{feff}{text}"),
        text.replace('\n', "\r\n"),
        text.replace('\n', "\r"),
        format!("---\n{text}..."),
        format!("# comment\n\n{text}# end\n"),
        text.trim_end().to_owned(),
        "{\"apiVersion\": \"mctl.giantswarm.io/v1alpha1\", \"kind\": \"ManagementCluster\", \"metadata\": {\"name\": \"golem\"}}".to_owned(),
    ] {
        assert_eq!(config::load(&other, "mc.yaml").unwrap(), document, "{other:?}");
    }
}

/// The manager checks objects that the cluster has added to.
#[test]
fn objects_from_a_cluster_are_valid() {
    let mut document = ManagementCluster::new("golem", ManagementClusterSpec::default());
    document.metadata.uid = Some("1".into());
    document.metadata.generation = Some(4);
    document.metadata.namespace = Some("giantswarm".into());
    document.status = Some(ManagementClusterStatus::default());
    assert!(config::validate(&document, &["cilium"]).is_empty());
    document.spec.control_plane.replicas = 2;
    document
        .spec
        .components
        .insert("celium".into(), ComponentSettings::default());
    let problems = config::validate(&document, &["cilium"]);
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "spec.controlPlane.replicas: expected `1` or `3`, found `2` (write one of these)",
            "spec.components.celium: unknown component `celium` (write `cilium`)"
        ]
    );
    assert!(problems.iter().all(|p| p.span.is_none()));
}
