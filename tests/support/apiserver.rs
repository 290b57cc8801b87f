//! A real kube-apiserver with etcd from `KUBEBUILDER_ASSETS`, on free ports, gone when dropped. It must not use a cluster that is there.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tempfile::TempDir;

const TOKEN: &str = "test-administrator";

/// A running API server.
pub struct ApiServer {
    folder: TempDir,
    etcd: Child,
    server: Child,
    port: u16,
}

/// A process that could not be started leaves the other running unless it is stopped here.
impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.etcd] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ports that nobody has now; held together until all are known, so that they differ.
fn free_ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .map(|listener: TcpListener| listener.local_addr().unwrap().port())
}

fn program(name: &str) -> PathBuf {
    let folder = std::env::var("KUBEBUILDER_ASSETS")
        .expect("KUBEBUILDER_ASSETS must name a folder with etcd and kube-apiserver: cargo xtask test apiserver sets it");
    PathBuf::from(folder).join(name)
}

impl ApiServer {
    /// Starts both and waits until the API answers.
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let log = |name: &str| Stdio::from(File::create(path(name)).unwrap());
        let [client, peer, port] = free_ports();
        let etcd = Command::new(program("etcd"))
            .arg("--data-dir")
            .arg(path("etcd"))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            // Tests lose nothing when the machine stops.
            .arg("--unsafe-no-fsync")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log("etcd.log"))
            .spawn()
            .expect("etcd starts");
        let authority = mctl::pki::Authority::new("test").unwrap();
        let leaf = authority
            .serving(&["127.0.0.1".to_owned(), "localhost".to_owned()])
            .unwrap();
        fs::write(path("tls.crt"), leaf.certificate).unwrap();
        fs::write(path("tls.key"), &leaf.key).unwrap();
        fs::write(path("ca.crt"), authority.certificate).unwrap();
        fs::write(
            path("tokens"),
            format!("{TOKEN},admin,admin,system:masters\n"),
        )
        .unwrap();
        let server = Command::new(program("kube-apiserver"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{client}"))
            .arg("--bind-address=127.0.0.1")
            .arg("--advertise-address=127.0.0.1")
            .arg(format!("--secure-port={port}"))
            .arg("--tls-cert-file")
            .arg(path("tls.crt"))
            .arg("--tls-private-key-file")
            .arg(path("tls.key"))
            .arg("--token-auth-file")
            .arg(path("tokens"))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg("--service-account-key-file")
            .arg(path("tls.crt"))
            .arg("--service-account-signing-key-file")
            .arg(path("tls.key"))
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            .arg("--authorization-mode=RBAC")
            // Nobody runs the controller that makes their tokens.
            .arg("--disable-admission-plugins=ServiceAccount")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log("apiserver.log"))
            .spawn()
            .expect("kube-apiserver starts");
        let mut this = Self {
            folder,
            etcd,
            server,
            port,
        };
        let client = this.client().await;
        for _ in 0..1200 {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            if client.request_text(request).await.is_ok() {
                return this;
            }
            if let Some(status) = this.server.try_wait().unwrap() {
                panic!("kube-apiserver ended with {status}:\n{}", this.log());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("kube-apiserver does not get ready:\n{}", this.log());
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// A client that may do everything.
    pub async fn client(&self) -> Client {
        self.client_as(None).await
    }

    /// A client with the rights of a service account.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Client {
        self.client_as(Some((namespace, name))).await
    }

    async fn client_as(&self, account: Option<(&str, &str)>) -> Client {
        let kubeconfig = self.kubeconfig(account);
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }

    /// Access as data.
    pub fn kubeconfig(&self, account: Option<(&str, &str)>) -> Kubeconfig {
        let mut user = json!({"token": TOKEN});
        if let Some((namespace, name)) = account {
            user["as"] = json!(format!("system:serviceaccount:{namespace}:{name}"));
            user["as-groups"] = json!([
                "system:serviceaccounts",
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated",
            ]);
        }
        let authority = self.folder.path().join("ca.crt");
        serde_json::from_value(json!({
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": authority}}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }))
        .unwrap()
    }
}
