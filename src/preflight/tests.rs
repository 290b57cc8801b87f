//! Each check over a table of facts: what is changed from a good host, and what must come of it.

use std::collections::BTreeMap;

use super::{
    Facts, Finding, Verdict,
    facts::{
        Answer, Earlier, Engine, Fact, Folder, Host, NoAnswer, Offer, Proxy, Route, Unknown, Wanted,
    },
    judge, look, refuse, text, worst,
};
use crate::{config::Cidr, ports::process::Output};

const GIB: u64 = 1 << 30;

fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).expect(text)
}

fn networks(all: &[(&str, &str)]) -> Option<Fact<BTreeMap<String, Vec<Cidr>>>> {
    let all = all
        .iter()
        .map(|(name, range)| ((*name).to_owned(), vec![cidr(range)]));
    Some(Ok(all.collect()))
}

fn folder(path: &str) -> Fact<Folder> {
    Ok(Folder {
        path: path.into(),
        free: 100 * GIB,
        ..Folder::default()
    })
}

/// A host on which everything is good.
fn good() -> Facts {
    Facts {
        wanted: Wanted {
            name: "golem".parse().unwrap(),
            machines: 2,
            pods: cidr("100.64.0.0/16"),
            services: cidr("100.80.0.0/16"),
            kubernetes: "v1.36.3".into(),
            node_image: "docker.io/kindest/node:v1.36.3".into(),
            mounts: [("/srv".to_owned(), true)].into(),
            mirrored: false,
            bundle: Some(Offer {
                path: "/srv/bundle.tar".into(),
                needed: 40,
                node_images: vec!["docker.io/kindest/node:v1.36.3".into()],
                ..Offer::default()
            }),
            earlier: None,
            own_image: Ok(()),
        },
        engine: Engine {
            address: "unix:///var/run/docker.sock".into(),
            answer: Ok(Answer {
                version: "26.1.5+dfsg1".into(),
                name: "host".into(),
                operating_system: "Debian GNU/Linux 13".into(),
                os_type: "linux".into(),
                security: vec!["name=seccomp,profile=builtin".into()],
                cgroup: "2".into(),
                storage: "overlay2".into(),
                root: "/var/lib/docker".into(),
                memory: 32 * GIB,
                processors: 8,
                kernel: "6.12.0-amd64".into(),
                forwards: Some(true),
                ahead: Some(0),
                networks: networks(&[("bridge", "172.17.0.0/16"), ("kind", "172.18.0.0/16")]),
                machines: Some(Ok(vec![])),
                registry: Some(Ok(None)),
                free: Some(Ok(100 * GIB)),
                ..Answer::default()
            }),
        },
        host: Host {
            name: "host".into(),
            year: 2026,
            state: folder("/h/.local/state/mctl"),
            cache: folder("/h/.cache/mctl"),
            memory: Ok(16 * GIB),
            inotify_instances: Ok(8192),
            inotify_watches: Ok(1_048_576),
            open_files: Ok(20_000),
            file_systems: Ok(vec!["ext4".into(), "overlay".into()]),
            routes: Ok(vec![
                Route {
                    to: cidr("0.0.0.0/0"),
                    device: "eth0".into(),
                },
                Route {
                    to: cidr("172.17.0.0/16"),
                    device: "docker0".into(),
                },
                Route {
                    to: cidr("192.168.7.0/24"),
                    device: "eth0".into(),
                },
            ]),
            resolvers: Ok(vec!["192.168.7.1".parse().unwrap()]),
            proxy: Proxy::default(),
        },
    }
}

fn earlier() -> Earlier {
    Earlier {
        file: "/s/request.json".into(),
        differs: false,
    }
}

fn engine(facts: &mut Facts) -> &mut Answer {
    facts.engine.answer.as_mut().unwrap()
}

fn found(findings: &[Finding], id: &str) -> Finding {
    findings
        .iter()
        .find(|f| f.id == id)
        .unwrap_or_else(|| panic!("no check {id}"))
        .clone()
}

#[test]
fn on_a_good_host_everything_is_good() {
    let findings = judge(&good());
    let others: Vec<&Finding> = findings
        .iter()
        .filter(|f| f.result != Verdict::Good)
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(findings.len() >= 30, "{}", findings.len());
    let mut ids: Vec<&str> = findings.iter().map(|f| f.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), findings.len(), "names of checks are unique");
    refuse(&findings, "mctl preflight").unwrap();
    assert_eq!(text(&findings, |v| v != Verdict::Good), "");
}

type Case = (&'static str, Verdict, &'static str, fn(&mut Facts));

/// Check, what it must come to, what must be said, and the change that leads to it.
const CASES: &[Case] = &[
    ("docker-command", Verdict::Bad, "docker-cli", |f| {
        f.engine.answer = Err(NoAnswer::NoCommand("not found".into()))
    }),
    ("engine", Verdict::Unknown, "no docker command", |f| {
        f.engine.answer = Err(NoAnswer::NoCommand("not found".into()))
    }),
    ("engine", Verdict::Bad, "no Docker engine answers", |f| {
        f.engine.answer = Err(NoAnswer::Silent("refused".into()))
    }),
    ("engine", Verdict::Bad, "usermod -aG docker", |f| {
        f.engine.answer = Err(NoAnswer::NoPermission("permission denied".into()))
    }),
    ("engine", Verdict::Bad, "set DOCKER_HOST", |f| {
        f.engine.answer = Err(NoAnswer::Strange("?".into()))
    }),
    (
        "engine-version",
        Verdict::Unknown,
        "no engine answers",
        |f| f.engine.answer = Err(NoAnswer::Silent("refused".into())),
    ),
    (
        "ranges-engine",
        Verdict::Unknown,
        "no engine answers",
        |f| f.engine.answer = Err(NoAnswer::Silent("refused".into())),
    ),
    ("engine-product", Verdict::Bad, "Podman", |f| {
        engine(f).podman = true
    }),
    ("engine-version", Verdict::Bad, "20.10.24", |f| {
        engine(f).version = "20.10.24+dfsg1".into()
    }),
    ("engine-version", Verdict::Unknown, "does not say", |f| {
        engine(f).version = "dev".into()
    }),
    ("engine-rootful", Verdict::Bad, "rootless", |f| {
        engine(f).security.push("name=rootless".into())
    }),
    (
        "engine-user-namespaces",
        Verdict::Bad,
        "userns-remap",
        |f| engine(f).security.push("name=userns".into()),
    ),
    ("engine-system", Verdict::Bad, "windows", |f| {
        engine(f).os_type = "windows".into()
    }),
    ("engine-local", Verdict::Bad, "on another host", |f| {
        f.engine.address = "tcp://10.9.8.7:2375".into();
        engine(f).name = "build".into();
    }),
    ("engine-local", Verdict::Bad, "mounts folders", |f| {
        f.engine.address = "ssh://root@build.example".into();
        engine(f).name = "build".into();
    }),
    ("engine-local", Verdict::Good, "this host", |f| {
        f.engine.address = "tcp://127.0.0.1:2375".into()
    }),
    ("engine-local", Verdict::Tight, "in a container", |f| {
        f.host.name = "box".into()
    }),
    ("engine-local", Verdict::Tight, "Docker Desktop", |f| {
        engine(f).operating_system = "Docker Desktop".into()
    }),
    ("engine-cgroup", Verdict::Tight, "cgroup v1", |f| {
        engine(f).cgroup = "1".into()
    }),
    ("engine-cgroup", Verdict::Bad, "refuses", |f| {
        engine(f).cgroup = "1".into();
        f.wanted.bundle = None;
    }),
    ("engine-cgroup", Verdict::Tight, "cgroup v1", |f| {
        engine(f).cgroup = "1".into();
        f.wanted.bundle = None;
        f.wanted.kubernetes = "v1.34.1".into();
    }),
    ("engine-cgroup", Verdict::Unknown, "does not say", |f| {
        engine(f).cgroup = String::new()
    }),
    ("engine-storage", Verdict::Tight, "vfs", |f| {
        engine(f).storage = "vfs".into()
    }),
    ("engine-storage", Verdict::Bad, "devicemapper", |f| {
        engine(f).storage = "devicemapper".into()
    }),
    ("kernel", Verdict::Tight, "4.18", |f| {
        engine(f).kernel = "4.18.0".into()
    }),
    ("ip-forwarding", Verdict::Bad, "ip_forward=1", |f| {
        engine(f).forwards = Some(false)
    }),
    ("ip-forwarding", Verdict::Unknown, "does not say", |f| {
        engine(f).forwards = None
    }),
    ("clock-engine", Verdict::Tight, "30 s ahead", |f| {
        engine(f).ahead = Some(30)
    }),
    ("clock-engine", Verdict::Bad, "-400 s", |f| {
        engine(f).ahead = Some(-400)
    }),
    ("clock-engine", Verdict::Unknown, "does not say", |f| {
        engine(f).ahead = None
    }),
    ("clock-year", Verdict::Bad, "1970", |f| f.host.year = 1970),
    ("processors", Verdict::Tight, "one processor", |f| {
        engine(f).processors = 1
    }),
    ("engine-memory", Verdict::Bad, "4.5 GiB", |f| {
        engine(f).memory = 4 * GIB
    }),
    ("engine-memory", Verdict::Unknown, "does not say", |f| {
        engine(f).memory = 0
    }),
    ("engine-disk", Verdict::Bad, "12 GiB", |f| {
        engine(f).free = Some(Ok(3 * GIB))
    }),
    ("engine-disk", Verdict::Tight, "12 GiB", |f| {
        engine(f).free = Some(Ok(3 * GIB));
        f.wanted.earlier = Some(earlier());
    }),
    ("engine-disk", Verdict::Unknown, "permission", |f| {
        engine(f).free = Some(Err(Unknown::new("permission denied")))
    }),
    (
        "foreign-machines",
        Verdict::Bad,
        "kind delete cluster",
        |f| engine(f).machines = Some(Ok(vec!["golem-x".into()])),
    ),
    ("foreign-machines", Verdict::Good, "earlier run", |f| {
        engine(f).machines = Some(Ok(vec!["golem-x".into()]));
        f.wanted.earlier = Some(earlier());
    }),
    ("foreign-machines", Verdict::Unknown, "in time", |f| {
        engine(f).machines = Some(Err(Unknown::new("not in time")))
    }),
    (
        "foreign-registry",
        Verdict::Bad,
        "docker rm mctl-golem-registry",
        |f| engine(f).registry = Some(Ok(Some(false))),
    ),
    ("foreign-registry", Verdict::Good, "this cluster's", |f| {
        engine(f).registry = Some(Ok(Some(true)))
    }),
    ("host-memory", Verdict::Tight, "4.5 GiB", |f| {
        f.host.memory = Ok(2 * GIB)
    }),
    ("state-folder", Verdict::Bad, "XDG_STATE_HOME", |f| {
        f.host.state.as_mut().unwrap().refused = Some("read-only".into())
    }),
    ("state-folder", Verdict::Bad, "separators", |f| {
        f.host.state.as_mut().unwrap().path = "/s/a:b/mctl".into();
    }),
    ("state-folder", Verdict::Unknown, "HOME", |f| {
        f.host.state = Err(Unknown::new("HOME is not set"))
    }),
    ("state-disk", Verdict::Bad, "10 MiB", |f| {
        f.host.state.as_mut().unwrap().free = 10 << 20
    }),
    ("state-disk", Verdict::Tight, "500 MiB", |f| {
        f.host.state.as_mut().unwrap().free = 500 << 20
    }),
    ("cache-folder", Verdict::Bad, "XDG_CACHE_HOME", |f| {
        f.host.cache.as_mut().unwrap().refused = Some("read-only".into())
    }),
    ("cache-executable", Verdict::Bad, "noexec", |f| {
        f.host.cache.as_mut().unwrap().noexec = true
    }),
    (
        "inotify-instances",
        Verdict::Bad,
        "sysctl -w fs.inotify.max_user_instances=8192",
        |f| f.host.inotify_instances = Ok(128),
    ),
    ("inotify-watches", Verdict::Bad, "max_user_watches", |f| {
        f.host.inotify_watches = Ok(8192)
    }),
    ("inotify-watches", Verdict::Unknown, "cannot be read", |f| {
        f.host.inotify_watches = Err(Unknown::new("cannot be read"))
    }),
    ("open-files", Verdict::Tight, "ulimit -n", |f| {
        f.host.open_files = Ok(256)
    }),
    (
        "kernel-overlay",
        Verdict::Unknown,
        "modprobe overlay",
        |f| f.host.file_systems = Ok(vec!["ext4".into()]),
    ),
    (
        "proxy",
        Verdict::Tight,
        "172.18.0.0/16,100.64.0.0/16,100.80.0.0/16",
        |f| f.host.proxy.set = vec!["HTTPS_PROXY".into()],
    ),
    ("proxy", Verdict::Tight, "not spared: 172.18.0.0/16", |f| {
        f.host.proxy.set = vec!["HTTPS_PROXY".into()];
        f.host.proxy.spared = Some("localhost,100.0.0.0/8".into());
    }),
    ("proxy", Verdict::Good, "HTTPS_PROXY", |f| {
        f.host.proxy.set = vec!["HTTPS_PROXY".into()];
        f.host.proxy.spared = Some("localhost, 172.16.0.0/12,100.0.0.0/8".into());
    }),
    ("proxy", Verdict::Tight, "not told of it", |f| {
        f.host.proxy.set = vec!["HTTPS_PROXY".into()];
        f.host.proxy.spared = Some("*".into());
        f.wanted.bundle = None;
    }),
    ("ranges", Verdict::Bad, "in common", |f| {
        f.wanted.services = cidr("100.64.128.0/20")
    }),
    (
        "ranges-engine",
        Verdict::Bad,
        "`kind`, 172.18.0.0/16",
        |f| f.wanted.pods = cidr("172.18.0.0/16"),
    ),
    (
        "ranges-engine",
        Verdict::Tight,
        "`bridge`, 172.17.0.0/16",
        |f| f.wanted.services = cidr("172.17.0.0/20"),
    ),
    ("ranges-engine", Verdict::Tight, "172.16.0.0/12", |f| {
        engine(f).networks = networks(&[("bridge", "10.1.0.0/16")]);
        f.wanted.pods = cidr("172.18.0.0/16");
    }),
    ("ranges-engine", Verdict::Unknown, "no right", |f| {
        engine(f).networks = Some(Err(Unknown::new("no right")))
    }),
    (
        "ranges-host",
        Verdict::Bad,
        "name server 192.168.7.1/32",
        |f| f.wanted.pods = cidr("192.168.0.0/16"),
    ),
    (
        "ranges-host",
        Verdict::Tight,
        "route to 192.168.7.0/24 by eth0",
        |f| {
            f.wanted.pods = cidr("192.168.0.0/16");
            f.host.resolvers = Ok(vec![]);
        },
    ),
    ("ranges-host", Verdict::Unknown, "cannot be read", |f| {
        f.host.routes = Err(Unknown::new("cannot be read"))
    }),
    ("ranges-temporary", Verdict::Tight, "10.96.0.0/16", |f| {
        f.host.routes = Ok(vec![Route {
            to: cidr("10.0.0.0/8"),
            device: "tun0".into(),
        }]);
    }),
    ("ranges-temporary", Verdict::Bad, "10.244.0.0/16", |f| {
        engine(f).networks = networks(&[("kind", "10.244.3.0/24")])
    }),
    ("document", Verdict::Bad, "mctl destroy golem", |f| {
        f.wanted.earlier = Some(Earlier {
            file: "/s/request.json".into(),
            differs: true,
        });
    }),
    ("document", Verdict::Good, "earlier run", |f| {
        f.wanted.earlier = Some(earlier())
    }),
    ("extra-mounts", Verdict::Bad, "/does/not/exist", |f| {
        f.wanted.mounts.insert("/does/not/exist".into(), false);
    }),
    ("own-image", Verdict::Bad, "xtask dist", |f| {
        f.wanted.own_image = Err(Unknown::new("it needs a loader"))
    }),
    ("bundle-images", Verdict::Bad, "lacks 1 images", |f| {
        f.wanted.bundle.as_mut().unwrap().missing = vec!["x:1".into()]
    }),
    (
        "bundle-node-image",
        Verdict::Bad,
        "it holds docker.io/kindest/node:v1.36.3",
        |f| {
            f.wanted.kubernetes = "v1.37.0".into();
            f.wanted.node_image = "docker.io/kindest/node:v1.37.0".into();
            f.wanted.bundle.as_mut().unwrap().missing =
                vec!["docker.io/kindest/node:v1.37.0".into()];
        },
    ),
    (
        "bundle-node-image",
        Verdict::Bad,
        "set kubernetesVersion: v1.36.3",
        |f| f.wanted.kubernetes = "v1.37.0".into(),
    ),
    ("bundle-node-image", Verdict::Good, "v1.36.3", |f| {
        f.wanted.node_image = "r.example/node:v1.36.3-corp.1".into()
    }),
    ("bundle-path", Verdict::Bad, "separators", |f| {
        f.wanted.bundle.as_mut().unwrap().path = "/srv/a:b/b.tar".into()
    }),
    ("bundle-images", Verdict::Good, "no bundle", |f| {
        f.wanted.bundle = None
    }),
];

#[test]
fn every_check_comes_to_what_it_should() {
    for (id, verdict, said, change) in CASES {
        let mut facts = good();
        change(&mut facts);
        let findings = judge(&facts);
        let finding = found(&findings, id);
        assert_eq!(finding.result, *verdict, "{id}: {finding:#?}");
        let all = format!(
            "{} {} {} {}",
            finding.what, finding.place, finding.evidence, finding.fix
        );
        assert!(all.contains(said), "{id}: `{said}` is not in: {all}");
        for f in &findings {
            assert!(!f.what.is_empty() && !f.place.is_empty(), "{f:#?}");
            let needs = f.result != Verdict::Good;
            assert!(
                !needs || !f.fix.is_empty() && !f.evidence.is_empty(),
                "{f:#?}"
            );
        }
        // Unknown alone never stops, and bad always does.
        assert_eq!(
            refuse(&findings, "again").is_err(),
            worst(&findings) == Verdict::Bad,
            "{id}"
        );
    }
}

#[test]
fn each_check_can_come_to_something_else_than_good() {
    let tried: Vec<&str> = CASES
        .iter()
        .filter(|c| c.1 != Verdict::Good)
        .map(|c| c.0)
        .collect();
    for finding in judge(&good()) {
        assert!(tried.contains(&finding.id), "no case for {}", finding.id);
    }
}

#[test]
fn one_error_carries_every_bad_finding_with_its_fix() {
    let mut facts = good();
    engine(&mut facts).version = "20.10.24".into();
    facts.host.inotify_instances = Ok(128);
    facts.host.year = 1970;
    let error = refuse(&judge(&facts), "mctl preflight").unwrap_err();
    let said = error.to_string();
    for part in [
        "3 checks failed",
        "20.10.24",
        "max_user_instances",
        "1970",
        "state: nothing was changed",
        "fix:",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

fn printed(code: i32, stdout: &str, stderr: &str) -> Result<Answer, NoAnswer> {
    let out = Output {
        code,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    let now = jiff::Timestamp::now();
    look::answer(&out, now, now)
}

#[test]
fn what_engines_print_is_told_apart() {
    let silent = "ERROR: Cannot connect to the Docker daemon at unix:///nowhere.sock. Is the docker daemon running?";
    assert!(
        matches!(printed(1, "", silent), Err(NoAnswer::Silent(why)) if why.contains("nowhere"))
    );
    let denied = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock";
    assert!(matches!(
        printed(1, "", denied),
        Err(NoAnswer::NoPermission(_))
    ));
    let errors = serde_json::json!({"ServerVersion": "", "ServerErrors": [denied]}).to_string();
    assert!(matches!(
        printed(1, &errors, ""),
        Err(NoAnswer::NoPermission(_))
    ));
    let podman = r#"{"host":{"arch":"amd64"},"version":{"Version":"5.4.2"}}"#;
    assert!(matches!(printed(0, podman, ""), Err(NoAnswer::Strange(_))));
    assert!(matches!(
        printed(0, "nonsense", ""),
        Err(NoAnswer::Strange(_))
    ));
    let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(90);
    let answer = serde_json::json!({
        "ServerVersion": "29.0.1", "Name": "host", "OSType": "linux", "CgroupVersion": "2", "Driver": "overlayfs",
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]], "DockerRootDir": "/var/lib/docker",
        "SecurityOptions": ["name=seccomp,profile=builtin"], "MemTotal": 34_359_738_368_u64, "NCPU": 8,
        "KernelVersion": "6.1", "IPv4Forwarding": true, "SystemTime": ahead.to_string(),
    });
    let answer = printed(0, &answer.to_string(), "").unwrap();
    assert!(answer.containerd_store && !answer.podman && answer.forwards == Some(true));
    assert!(
        (85..=95).contains(&answer.ahead.unwrap()),
        "{:?}",
        answer.ahead
    );
}

#[test]
fn folders_are_tried_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let found = look::folder(&folder.path().join("not/there/yet"));
    assert_eq!(found.refused, None);
    assert!(found.free > 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(
        look::folder(std::path::Path::new("/proc/x/mctl"))
            .refused
            .is_some()
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let refused = look::folder(&file.join("below")).refused.unwrap();
    assert!(refused.contains("not a folder"), "{refused}");
}
