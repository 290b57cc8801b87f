//! What is rendered from sample documents.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use mctl::{catalog::Target, render};
use serde_json::{Value, json};

use crate::samples::{Sample, data};

#[test]
fn every_component_renders_for_its_clusters_and_is_quick() {
    let sample = Sample::new(json!({})).with_profile();
    for component in sample.catalog.components.values() {
        for target in &component.clusters {
            let start = std::time::Instant::now();
            let rendered = sample.component(&component.name, *target);
            println!(
                "{:<40} {target:?}: {} objects in {:?}",
                component.name,
                rendered.objects.len(),
                start.elapsed()
            );
        }
    }
    let start = std::time::Instant::now();
    let files = render::platform(sample.context()).unwrap_or_else(|e| panic!("{e}"));
    let size: usize = files.values().map(Vec::len).sum();
    println!(
        "platform: {} files, {size} bytes in {:?}",
        files.len(),
        start.elapsed()
    );
    assert_eq!(
        files,
        render::platform(sample.context()).unwrap(),
        "not deterministic"
    );
}

#[test]
fn cilium_is_the_same_release_from_both_clusters() {
    let sample = Sample::new(json!({})).with_profile();
    let mut temporary = data(&sample.component("cilium", Target::Temporary).objects);
    let mut management = data(&sample.component("cilium", Target::Management).objects);
    for object in &mut management {
        let labels = object["metadata"]
            .as_object_mut()
            .unwrap()
            .shift_remove("labels");
        assert_eq!(
            labels.unwrap()["kustomize.toolkit.fluxcd.io/name"],
            "cilium"
        );
    }
    insta::assert_json_snapshot!("cilium-temporary", temporary);
    let spec = temporary[1]["spec"].as_object_mut().unwrap();
    assert_eq!(
        spec.shift_remove("kubeConfig"),
        Some(json!({"secretRef": {"name": "golem-kubeconfig"}}))
    );
    temporary[0]["spec"]["url"] =
        json!("oci://mctl.giantswarm.svc:5000/mctl.giantswarm.io/charts/cilium");
    assert_eq!(temporary, management);
}

#[test]
fn a_chart_may_be_patched_and_have_manifests_beside_it() {
    let mut sample = Sample::new(json!({}));
    let cilium = sample.catalog.components.get_mut("cilium").unwrap();
    cilium.manifests = vec!["own:/flux-giantswarm/registry-ca.yaml".into()];
    cilium.patches = serde_json::from_value(json!([
        {"kind": "Deployment", "name": "x", "merge": {"spec": {"replicas": "{{ nodes.controlPlane }}"}}},
        {"kind": "Secret", "merge": {"data": null}},
    ]))
    .unwrap();
    let objects = data(&sample.component("cilium", Target::Management).objects);
    assert_eq!(objects.len(), 3);
    assert_eq!(
        objects[1]["spec"]["postRenderers"][0]["kustomize"]["patches"],
        json!([
            {"target": {"kind": "Deployment", "name": "x"},
                "patch": r#"{"spec":{"replicas":1},"kind":"Deployment","metadata":{"name":"x"}}"#},
            {"target": {"kind": "Secret"}, "patch": r#"{"data":null,"kind":"Secret","metadata":{"name":"any"}}"#},
        ])
    );
    let temporary = sample.component("cilium", Target::Temporary).objects;
    assert_eq!(
        temporary.len(),
        2,
        "the new cluster's objects are not for this one"
    );
}

#[test]
fn what_is_omitted_must_have_been_there() {
    let mut sample = Sample::new(json!({}));
    let crds = sample.catalog.components.get_mut("flux-crds").unwrap();
    let omit = |name: &str| {
        serde_json::from_value(json!([{"kind": "CustomResourceDefinition", "name": name}])).unwrap()
    };
    crds.omit = omit("buckets.source.toolkit.fluxcd.io");
    let left = data(&sample.component("flux-crds", Target::Management).objects);
    assert!(
        !left
            .iter()
            .any(|o| o["metadata"]["name"] == "buckets.source.toolkit.fluxcd.io")
    );
    sample.catalog.components.get_mut("flux-crds").unwrap().omit = omit("unknown");
    let component = &sample.catalog.components["flux-crds"];
    let error = render::component(sample.context(), component, Target::Management).unwrap_err();
    assert!(error.to_string().contains("`unknown`"));
}

#[test]
fn cluster_of_one_machine() {
    let sample = Sample::new(json!({})).with_profile();
    insta::assert_json_snapshot!(
        "cluster-small",
        data(&render::cluster(sample.context()).unwrap())
    );
}

#[test]
fn cluster_with_everything() {
    let mut sample = Sample::new(json!({
        "kubernetesVersion": "v1.35.5", "controlPlane": {"replicas": 3},
        "nodePools": [{"name": "a", "replicas": 4, "labels": {"x": "y"}}, {"name": "b"}],
        "provider": {"docker": {"extraMounts": [{"hostPath": "/data", "containerPath": "/mnt", "readOnly": true}]}},
        "registry": {"mirrors": [
            {"upstream": "*", "endpoints": ["https://a.example.io", "https://b.example.io"]},
            {"upstream": "quay.io", "endpoints": ["http://c.example.io:5000"]}]},
    }));
    sample.environment.load_balancer_image = None;
    sample.environment.node_repository = String::new();
    sample.environment.engine_socket = String::new();
    let objects = data(&render::cluster(sample.context()).unwrap());
    insta::assert_json_snapshot!("cluster-large", objects);
    let replicas: i64 = objects
        .iter()
        .filter(|o| {
            o["kind"] == "MachineDeployment"
                && o["metadata"]["labels"]["mctl.giantswarm.io/node-pool"] == "a"
        })
        .map(|o| o["spec"]["replicas"].as_i64().unwrap())
        .sum();
    assert_eq!(replicas, 4);
}

/// Every image that a machine is made of.
fn machine_images(objects: &[Value]) -> Vec<String> {
    objects
        .iter()
        .filter_map(|o| {
            o.pointer("/spec/template/spec/backend/docker/customImage")?
                .as_str()
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn machines_get_the_image_of_the_version_that_the_document_asks_for() {
    let pools = json!([{"name": "a", "replicas": 1}]);
    for (repository, profile, expected) in [
        (
            "mctl.giantswarm.io/golem/node",
            true,
            "mctl.giantswarm.io/golem/node",
        ),
        ("", true, "docker.io/kindest/node"),
        ("", false, "docker.io/kindest/node"),
    ] {
        let mut templates = BTreeSet::new();
        for version in ["v1.36.3", "v1.37.0"] {
            let mut sample = Sample::new(json!({"kubernetesVersion": version, "nodePools": pools}));
            if profile {
                sample = sample.with_profile();
            }
            sample.environment.node_repository = repository.into();
            let objects = data(&render::cluster(sample.context()).unwrap());
            let images = machine_images(&objects);
            assert_eq!(images, vec![format!("{expected}:{version}"); 2]);
            let template = objects
                .iter()
                .find(|o| o["kind"] == "KubeadmControlPlane")
                .map(|o| {
                    assert_eq!(o["spec"]["version"], version);
                    o["spec"]["machineTemplate"]["spec"]["infrastructureRef"]["name"].clone()
                });
            templates.insert(template.unwrap().to_string());
        }
        assert_eq!(templates.len(), 2, "a new image is a new template");
    }
}

#[test]
fn lost_machines_are_replaced_a_few_at_a_time_and_certificates_in_time() {
    let sample = Sample::new(json!({"controlPlane": {"replicas": 3}, "nodePools": [
        {"name": "small", "replicas": 1}, {"name": "big", "replicas": 10}]}));
    let objects = data(&render::cluster(sample.context()).unwrap());
    let plane = objects
        .iter()
        .find(|o| o["kind"] == "KubeadmControlPlane")
        .unwrap();
    let rollout = &plane["spec"]["rollout"];
    assert_eq!(rollout["before"]["certificatesExpiryDays"], 60);
    assert_eq!(rollout["strategy"]["type"], "RollingUpdate");
    let checks: BTreeMap<&str, &Value> = objects
        .iter()
        .filter(|o| o["kind"] == "MachineHealthCheck")
        .map(|o| (o["metadata"]["name"].as_str().unwrap(), &o["spec"]))
        .collect();
    let limits: Vec<_> = checks
        .iter()
        .map(|(name, spec)| {
            let limit = spec["remediation"]["triggerIf"]["unhealthyLessThanOrEqualTo"].as_i64();
            (*name, limit.unwrap())
        })
        .collect();
    assert_eq!(
        limits,
        [
            ("golem-big", 4),
            ("golem-control-plane", 1),
            ("golem-small", 1)
        ]
    );
    // Each selects machines by labels that they get.
    for (name, kind) in [
        ("golem-big", "MachineDeployment"),
        ("golem-control-plane", "KubeadmControlPlane"),
    ] {
        let wanted = checks[name]["selector"]["matchLabels"].as_object().unwrap();
        let owner = objects.iter().find(|o| {
            o["kind"] == kind
                && (kind != "MachineDeployment" || o["metadata"]["name"] == "golem-big-1")
        });
        let owner = &owner.unwrap()["spec"];
        let given = match kind {
            "MachineDeployment" => &owner["template"]["metadata"]["labels"],
            _ => &owner["machineTemplate"]["metadata"]["labels"],
        };
        for (label, value) in wanted {
            // Cluster API itself puts this one on control-plane machines.
            if label != "cluster.x-k8s.io/control-plane" {
                assert_eq!(&given[label], value, "{name} {label}");
            }
        }
        let conditions = checks[name]["checks"]["unhealthyNodeConditions"]
            .as_array()
            .unwrap();
        assert_eq!(conditions.len(), 2);
        assert!(conditions.iter().all(|c| c["timeoutSeconds"] == 600));
    }
}

#[test]
fn alertmanager_shows_a_token_that_is_in_no_artifact() {
    let sample = Sample::new(json!({})).with_profile();
    let objects = data(&sample.component("monitoring", Target::Management).objects);
    let config = objects
        .iter()
        .find(|o| o["kind"] == "AlertmanagerConfig")
        .unwrap();
    let webhook = &config["spec"]["receivers"][0]["webhookConfigs"][0];
    assert_eq!(
        webhook["httpConfig"]["authorization"],
        json!({"type": "Bearer", "credentials": {"name": "mctl-alerts", "key": "token"}})
    );
    assert!(
        !objects.iter().any(|o| o["kind"] == "Secret"),
        "the manager makes it"
    );
}

#[test]
fn the_manager_may_do_what_it_does_and_no_more() {
    let sample = Sample::new(json!({}));
    let objects = data(&sample.component("mctl", Target::Management).objects);
    let verbs = |kind: &str, namespace: Option<&str>, resource: &str, name: Option<&str>| {
        let mut all = BTreeSet::new();
        for role in objects.iter().filter(|o| {
            o["kind"] == kind && namespace.is_none_or(|n| o["metadata"]["namespace"] == n)
        }) {
            for rule in role["rules"].as_array().unwrap() {
                let has = |key: &str, value: &str| {
                    rule[key]
                        .as_array()
                        .is_some_and(|a| a.iter().any(|v| v == value))
                };
                let named = match name {
                    Some(name) => has("resourceNames", name),
                    None => rule.get("resourceNames").is_none(),
                };
                if has("resources", resource) && named {
                    let verbs = rule["verbs"].as_array().unwrap().iter();
                    all.extend(verbs.map(|v| v.as_str().unwrap().to_owned()));
                }
            }
        }
        all.into_iter().collect::<Vec<_>>().join(" ")
    };
    let (role, own, org) = ("Role", Some("giantswarm"), Some("org-giantswarm"));
    for (found, expected) in [
        // A Secret of the wrong type is deleted by name; none other.
        (
            verbs(
                "ClusterRole",
                None,
                "secrets",
                Some("capi-webhook-service-cert"),
            ),
            "create delete get patch",
        ),
        (
            verbs("ClusterRole", None, "secrets", Some("mctl-alerts")),
            "create get list patch watch",
        ),
        (verbs("ClusterRole", None, "secrets", None), ""),
        (
            verbs(role, own, "secrets", Some("mctl-in-force")),
            "create get patch",
        ),
        (
            verbs(role, own, "secrets", Some("mctl-ca")),
            "get list watch",
        ),
        (verbs(role, own, "secrets", None), ""),
        (
            verbs(role, own, "managementclusters", None),
            "create get list watch",
        ),
        (
            verbs(role, own, "configmaps", Some("mctl-environment")),
            "create get list patch watch",
        ),
        (verbs(role, org, "machinedeployments", None), "delete"),
        (verbs(role, org, "machinehealthchecks", None), "delete"),
        (verbs(role, org, "kubeadmconfigtemplates", None), "delete"),
        (verbs(role, org, "devmachinetemplates", None), "delete"),
        (verbs(role, org, "clusters", None), ""),
        (verbs(role, org, "*", None), "create get list patch watch"),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn flux_and_manager() {
    let sample = Sample::new(json!({}));
    insta::assert_json_snapshot!(
        "flux-temporary",
        data(
            &sample
                .component("flux-giantswarm", Target::Temporary)
                .objects
        )
    );
    insta::assert_json_snapshot!("root", data(&render::root(sample.context()).unwrap()));
    let sample = Sample::new(
        json!({"gitops": {"customer": {"git": {"url": "https://example.io/x.git", "secretRef": "key"}}},
        "controlPlane": {"replicas": 3}}),
    );
    let customer: Vec<Value> = data(&sample.component("flux-system", Target::Management).objects)
        .into_iter()
        .filter(|o| o["metadata"]["name"] == "customer")
        .collect();
    insta::assert_json_snapshot!("flux-customer", customer);
    let manager: Vec<Value> = data(&sample.component("mctl", Target::Management).objects)
        .into_iter()
        .filter(|o| o["kind"] == "Deployment")
        .collect();
    insta::assert_json_snapshot!("manager", manager);
}

#[test]
fn cluster_api_without_cert_manager() {
    let sample = Sample::new(json!({}));
    let mut secrets = BTreeSet::new();
    for name in [
        "core",
        "bootstrap-kubeadm",
        "control-plane-kubeadm",
        "infrastructure-docker",
    ] {
        let rendered = sample.component(&format!("cluster-api-{name}"), Target::Management);
        secrets.extend(rendered.certificates.iter().map(|c| c.secret.clone()));
        assert_eq!(rendered.certificates.len(), 1, "{name}");
        for object in data(&rendered.objects) {
            let text = object.to_string();
            assert!(!text.contains("cert-manager"), "{text:.300}");
            assert_eq!(
                object["metadata"]["labels"]["clusterctl.cluster.x-k8s.io"],
                ""
            );
            let clients = [object.pointer("/spec/conversion/webhook/clientConfig")]
                .into_iter()
                .flatten()
                .chain(
                    object["webhooks"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|w| &w["clientConfig"]),
                );
            for client in clients {
                assert!(client["caBundle"].as_str().unwrap().len() > 20);
            }
            if object["kind"] == "CustomResourceDefinition" {
                assert_eq!(
                    object["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"],
                    "disabled"
                );
            }
        }
    }
    // What the manager may renew is what there is to renew.
    let manager = data(&sample.component("mctl", Target::Management).objects);
    let role = manager.iter().find(|o| o["kind"] == "ClusterRole").unwrap();
    let named = role["rules"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["resources"] == json!(["secrets"]))
        .unwrap();
    let named: BTreeSet<String> = serde_json::from_value(named["resourceNames"].clone()).unwrap();
    assert_eq!(named, secrets);
    let docker = sample.component("cluster-api-infrastructure-docker", Target::Temporary);
    let deployment: Vec<Value> = data(&docker.objects)
        .into_iter()
        .filter(|o| o["kind"] == "Deployment")
        .collect();
    insta::assert_json_snapshot!("docker-provider", deployment);
}

#[test]
fn the_artifact_holds_kustomizations_and_no_keys() {
    let sample = Sample::new(json!({})).with_profile();
    let files = render::platform(sample.context()).unwrap();
    let mut kustomizations = BTreeMap::new();
    for (path, bytes) in &files {
        let text = std::str::from_utf8(bytes).unwrap();
        for document in text.split("---\n").filter(|d| !d.is_empty()) {
            let value: Value = serde_json::from_str(document).unwrap();
            for (_, secret) in value["data"]
                .as_object()
                .filter(|_| value["kind"] == "Secret")
                .into_iter()
                .flatten()
            {
                let plain = STANDARD.decode(secret.as_str().unwrap()).unwrap();
                assert!(
                    !String::from_utf8_lossy(&plain).contains("PRIVATE KEY"),
                    "{path}"
                );
            }
            if !path.contains('/') && path != "kustomization.yaml" {
                kustomizations.insert(
                    value["metadata"]["name"].as_str().unwrap().to_owned(),
                    value["spec"].clone(),
                );
            }
        }
    }
    for (name, spec) in &kustomizations {
        for need in spec["dependsOn"].as_array().into_iter().flatten() {
            assert!(
                kustomizations.contains_key(need["name"].as_str().unwrap()),
                "{name} needs {need}"
            );
        }
    }
    // Without these the cluster is not one any more: deleting their Kustomization deletes nothing else.
    for (name, spec) in &kustomizations {
        let required = sample.catalog.components[name].required;
        assert_eq!(spec["deletionPolicy"] == "Orphan", required, "{name}");
    }
    for object in render::root(sample.context()).unwrap() {
        if object
            .types
            .as_ref()
            .is_some_and(|t| t.kind == "Kustomization")
        {
            assert_eq!(object.data["spec"]["deletionPolicy"], "Orphan");
        }
    }
    insta::assert_json_snapshot!("kustomization-cilium", kustomizations["cilium"]);
    let listed: Value = serde_json::from_str(
        std::str::from_utf8(&files["kustomization.yaml"])
            .unwrap()
            .trim_start_matches("---\n"),
    )
    .unwrap();
    assert_eq!(
        listed["resources"].as_array().unwrap().len(),
        kustomizations.len()
    );
}
