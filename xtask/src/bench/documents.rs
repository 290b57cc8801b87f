//! The peer's manifests: the vendored ones with certificates put in, charts rendered; must not contact a cluster.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::{host, vendor};

/// Cluster API's four providers in the order they are applied.
pub const PROVIDERS: [&str; 4] = [
    "core",
    "bootstrap-kubeadm",
    "control-plane-kubeadm",
    "infrastructure-docker",
];

/// Fills a template of `xtask/bench`: `@NAME@` by its value.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("@{name}@"), value)
        })
}

/// Writes every manifest that only has to be applied.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    let vendored = host::root().join("assets/vendor");
    let authority = Authority::new(folder)?;
    for provider in PROVIDERS {
        let path = vendored.join(format!("manifests/cluster-api/{provider}.yaml"));
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(
            folder.join(format!("{provider}.yaml")),
            authority.inject(&substitute(&text)?)?,
        )?;
    }
    let chart = |name: &str| -> anyhow::Result<_> {
        let files = host::files_under(&vendored.join("charts"))?;
        // `kyverno-3…`, not `kyverno-policies-3…`.
        let numbered = |file: &&String| {
            file.strip_prefix(name)
                .is_some_and(|rest| rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit))
        };
        let file = files
            .iter()
            .find(numbered)
            .with_context(|| format!("assets/vendor/charts has no {name}"))?;
        Ok(vendored.join("charts").join(file))
    };
    let cilium = [
        "image.useDigest=false",
        "operator.image.useDigest=false",
        "operator.replicas=1",
        "envoy.enabled=false",
        "l7Proxy=false",
        "hubble.enabled=false",
        "ipam.mode=kubernetes",
        "routingMode=tunnel",
        "tunnelProtocol=vxlan",
        "securityContext.privileged=true",
    ];
    render(
        &chart("cilium")?,
        "cilium",
        "kube-system",
        &cilium,
        &folder.join("cilium.yaml"),
    )?;
    let kyverno = [
        "crds.install=false",
        "crds.migration.enabled=false",
        "grafana.enabled=false",
        "webhooksCleanup.enabled=false",
        "policyReportsCleanup.enabled=false",
    ];
    render(
        &chart("kyverno")?,
        "kyverno",
        "kyverno",
        &kyverno,
        &folder.join("kyverno.yaml"),
    )?;
    let operator =
        fs::read_to_string(vendored.join("manifests/prometheus-operator/operator.yaml"))?;
    fs::write(
        folder.join("operator.yaml"),
        operator.replace("namespace: default", "namespace: monitoring"),
    )?;
    fs::write(
        folder.join("monitoring.yaml"),
        include_str!("../../bench/monitoring.yaml"),
    )?;
    for namespace in ["flux-system", "flux-giantswarm"] {
        let text = fill(
            include_str!("../../bench/flux.yaml"),
            &[("NAMESPACE", namespace)],
        );
        fs::write(folder.join(format!("{namespace}.yaml")), text)?;
    }
    Ok(())
}

fn render(
    chart: &Path,
    name: &str,
    namespace: &str,
    values: &[&str],
    to: &Path,
) -> anyhow::Result<()> {
    let mut helm = Command::new(vendor::tool("helm")?);
    helm.args(["template", name])
        .arg(chart)
        .args(["--namespace", namespace, "--no-hooks"]);
    for value in values {
        helm.args(["--set", value]);
    }
    let work = tempfile::tempdir()?;
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(variable, work.path());
    }
    fs::write(to, host::output(&mut helm)?)?;
    Ok(())
}

/// Fills `${NAME:=default}` with its default; topology is switched on, as mctl does.
fn substitute(text: &str) -> anyhow::Result<String> {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inside, rest) = part.split_once('}').context("a ${ without }")?;
        let (name, default) = inside
            .split_once(":=")
            .with_context(|| format!("${{{inside}}} has no default"))?;
        result += if name == "CLUSTER_TOPOLOGY" {
            "true"
        } else {
            default.trim_matches('"')
        };
        result += rest;
    }
    Ok(result)
}

/// A certificate authority made by openssl for one run.
struct Authority<'a> {
    folder: &'a Path,
    bundle: String,
}

impl<'a> Authority<'a> {
    fn new(folder: &'a Path) -> anyhow::Result<Self> {
        let mut command = openssl(folder);
        command.args(["-subj", "/CN=bench", "-keyout", "ca.key", "-out", "ca.crt"]);
        command.args(["-addext", "keyUsage=critical,keyCertSign"]);
        host::output(&mut command)?;
        Ok(Self {
            folder,
            bundle: base64(&fs::read(folder.join("ca.crt"))?),
        })
    }

    /// Replaces cert-manager's objects by a Secret and puts the authority into every webhook.
    fn inject(&self, text: &str) -> anyhow::Result<String> {
        let mut result = String::new();
        for document in text.split("\n---\n") {
            let kind = document
                .lines()
                .find_map(|line| line.strip_prefix("kind: "))
                .unwrap_or_default();
            let text = match kind {
                "Issuer" => continue,
                "Certificate" => self.secret(document)?,
                _ => webhooks(document, &self.bundle),
            };
            result += &format!("---\n{}\n", text.trim_matches('\n'));
        }
        Ok(result)
    }

    fn secret(&self, certificate: &str) -> anyhow::Result<String> {
        let value = |key: &str| {
            let found = certificate
                .lines()
                .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
            found.with_context(|| format!("a Certificate without {key}"))
        };
        let (name, namespace) = (value("secretName")?, value("namespace")?);
        let names: Vec<_> = certificate
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- "))
            .filter(|name| name.contains(".svc"))
            .collect();
        ensure!(!names.is_empty(), "a Certificate without dnsNames");
        let alternatives = names
            .iter()
            .map(|name| format!("DNS:{name}"))
            .collect::<Vec<_>>()
            .join(",");
        let mut command = openssl(self.folder);
        command.args([
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-subj",
            "/CN=webhook",
            "-keyout",
            "tls.key",
            "-out",
            "tls.crt",
        ]);
        command.args(["-addext", &format!("subjectAltName={alternatives}")]);
        host::output(&mut command)?;
        let (key, chain) = (
            fs::read(self.folder.join("tls.key"))?,
            fs::read(self.folder.join("tls.crt"))?,
        );
        Ok(format!(
            "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             data:\n  tls.crt: {}\n  tls.key: {}\n  ca.crt: {}",
            base64(&chain),
            base64(&key),
            self.bundle
        ))
    }
}

fn openssl(folder: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    command.args(["-noenc", "-days", "2"]);
    command
}

/// Adds the authority after every `clientConfig:` of a webhook or conversion.
fn webhooks(document: &str, bundle: &str) -> String {
    let mut result = String::new();
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        // The placeholder of a conversion; schemas have properties of that name.
        if line.trim() == "caBundle: Cg==" {
            continue;
        }
        result += line;
        result.push('\n');
        // Only a real one goes on so; a schema describes a property of that name.
        if line.trim() == "clientConfig:" || line.trim() == "- clientConfig:" {
            let inner = line.len() - line.trim_start_matches([' ', '-']).len() + 2;
            let next = lines.peek().map(|next| next.trim());
            if matches!(next, Some("service:") | Some("caBundle: Cg==")) {
                result += &format!("{}caBundle: {bundle}\n", " ".repeat(inner));
            }
        }
    }
    result
}

/// Base64 as the coreutils of the same name writes it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0u32, |bits, (index, byte)| {
            bits | u32::from(*byte) << (16 - 8 * index)
        });
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index > chunk.len() {
                '='
            } else {
                char::from(letter)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_variables() {
        assert_eq!(
            substitute("a ${X:=8} ${Y:=\"\"} ${CLUSTER_TOPOLOGY:=false} z").unwrap(),
            "a 8  true z"
        );
        assert!(substitute("${X}").is_err());
    }

    #[test]
    fn base64_is_the_usual_one() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }

    #[test]
    fn the_authority_goes_where_services_are_called() {
        let text = "webhooks:\n- clientConfig:\n    service:\n      name: x\nspec:\n  conversion:\n    webhook:\n      clientConfig:\n        caBundle: Cg==\n        service:\n          name: y\nschema:\n  clientConfig:\n    properties:\n      caBundle:\n        type: string\n";
        assert_eq!(
            webhooks(text, "Q0E="),
            "webhooks:\n- clientConfig:\n    caBundle: Q0E=\n    service:\n      name: x\nspec:\n  conversion:\n    webhook:\n      clientConfig:\n        caBundle: Q0E=\n        service:\n          name: y\nschema:\n  clientConfig:\n    properties:\n      caBundle:\n        type: string\n"
        );
    }

    #[test]
    fn certificates_become_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path()).unwrap();
        let text = "kind: Issuer\n---\nkind: Certificate\nmetadata:\n  name: c\n  namespace: n\nspec:\n  dnsNames:\n  - s.n.svc\n  - s.n.svc.cluster.local\n  secretName: cert\n---\nkind: Service\n";
        let made = authority.inject(text).unwrap();
        assert!(
            made.contains("kind: Secret")
                && made.contains("name: cert\n  namespace: n\n")
                && made.contains("kind: Service")
        );
        assert!(!made.contains("Issuer") && !made.contains("kind: Certificate"));
    }
}
