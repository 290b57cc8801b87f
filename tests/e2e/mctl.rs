//! Drives the executable as a user does: runs it, reads its events, kills it.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// The executable with a state and cache of its own.
pub struct Mctl {
    name: String,
    executable: PathBuf,
    bundle: PathBuf,
    folder: PathBuf,
}

/// What a finished run left.
pub struct Finished {
    pub status: ExitStatus,
    /// Standard output and error.
    pub text: String,
}

fn needed(variable: &str) -> PathBuf {
    let value = env::var_os(variable).unwrap_or_else(|| {
        panic!("the live lane needs {variable}; run it by `cargo xtask test live`")
    });
    let path = PathBuf::from(value);
    assert!(
        path.exists(),
        "{variable} is {}, which is not there",
        path.display()
    );
    path
}

impl Mctl {
    /// Writes a document for a cluster. What a run that was killed left of it is removed first, by its own state; the folder
    /// is therefore the same each time, and stays after a failure.
    pub fn new(name: &str, spec: &str) -> Self {
        let this = Self {
            name: name.into(),
            executable: needed("MCTL_E2E_EXECUTABLE"),
            bundle: needed("MCTL_E2E_BUNDLE"),
            folder: Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join("e2e")
                .join(name),
        };
        if this.state_folder().exists() {
            let out = this.run(&["destroy", name, "--confirm", name]);
            println!("destroying what an earlier run left: {}", out.text);
        }
        if this.folder.exists() {
            fs::remove_dir_all(&this.folder).unwrap();
        }
        fs::create_dir_all(&this.folder).unwrap();
        let text = format!(
            "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {{name: {name}}}\n{spec}"
        );
        fs::write(this.folder.join("mc.yaml"), text).unwrap();
        this
    }

    /// Removes the test's own folder, when all went well.
    pub fn close(self) {
        fs::remove_dir_all(self.folder).unwrap();
    }

    pub fn config(&self) -> String {
        self.folder.join("mc.yaml").display().to_string()
    }

    pub fn bundle(&self) -> String {
        self.bundle.display().to_string()
    }

    pub fn state_folder(&self) -> PathBuf {
        self.folder.join("state/mctl").join(&self.name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(&self.executable);
        c.args(args)
            .env("XDG_STATE_HOME", self.folder.join("state"))
            .env("XDG_CACHE_HOME", self.folder.join("cache"))
            .stdin(Stdio::null());
        c
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn run(&self, args: &[&str]) -> Finished {
        self.run_with(args, &[])
    }

    /// Like [`run`](Self::run), with other variables.
    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Finished {
        let mut command = self.command(args);
        command.envs(env.iter().copied());
        let out = command.output().unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        Finished {
            status: out.status,
            text,
        }
    }

    /// Runs bootstrap with more arguments and other variables.
    pub fn bootstrap_with(&self, extra: &[&str], env: &[(&str, &str)]) -> Finished {
        let (config, bundle) = (self.config(), self.bundle());
        let mut args = vec![
            "bootstrap",
            "--config",
            &config,
            "--bundle",
            &bundle,
            "--yes",
            "--output",
            "lines",
        ];
        args.extend(extra);
        self.run_with(&args, env)
    }

    fn bootstrap(&self) -> Child {
        let args = [
            "bootstrap",
            "--config",
            &self.config(),
            "--bundle",
            &self.bundle(),
            "--yes",
            "--output",
            "json",
        ];
        self.command(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Starts bootstrap, lets it reach a step and work on it for a while; returns the running process.
    fn bootstrap_until_in(&self, step: &str, after: Duration) -> Child {
        let mut child = self.bootstrap();
        let begin = Instant::now();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in &mut lines {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if event["event"] == "step-started" && event["step"] == step {
                std::thread::sleep(after);
                println!("in {step} after {:.1} s", begin.elapsed().as_secs_f64());
                // Somebody must go on reading, or the process would stop at a full pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return child;
            }
        }
        let mut text = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        let status = child.wait().unwrap();
        panic!("bootstrap ended before step {step} ({status}): {text}");
    }

    pub fn bootstrap_killed_in(&self, step: &str, after: Duration) {
        let mut child = self.bootstrap_until_in(step, after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends SIGINT and returns what was said on standard error.
    pub fn bootstrap_interrupted_in(&self, step: &str, after: Duration) -> String {
        let child = self.bootstrap_until_in(step, after);
        let killed = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let begin = Instant::now();
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(8), "interrupted");
        // Seconds on an idle machine; a step that went on to its end would take minutes.
        assert!(
            begin.elapsed() < Duration::from_secs(40),
            "Ctrl-C took {:?}",
            begin.elapsed()
        );
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    pub fn second_mctl_is_refused_while_one_runs(&self) {
        let mut first = self.bootstrap_until_in("handover", Duration::ZERO);
        let second = self.run(&[
            "bootstrap",
            "--config",
            &self.config(),
            "--bundle",
            &self.bundle(),
            "--yes",
        ]);
        assert_eq!(second.status.code(), Some(6), "{}", second.text);
        assert!(
            second.text.contains("another mctl works on")
                && second.text.contains(&format!("process {}", first.id())),
            "{}",
            second.text
        );
        first.kill().unwrap();
        first.wait().unwrap();
    }

    /// Runs bootstrap to its end and returns a line about it.
    pub fn bootstrap_to_the_end(&self) -> String {
        let begin = Instant::now();
        let args = [
            "bootstrap",
            "--config",
            &self.config(),
            "--bundle",
            &self.bundle(),
            "--yes",
            "--output",
            "lines",
        ];
        let out = self.run(&args);
        println!("{}", out.text);
        assert!(out.status.success(), "bootstrap failed");
        format!("{:.1} s for the last part", begin.elapsed().as_secs_f64())
    }

    /// Inputs that must be refused before anything is changed.
    pub fn refuses_bad_input(&self) {
        let bad = self.folder.join("bad.yaml");
        fs::write(&bad, "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {name: live}\nspec:\n  controlPlain: {replicas: 2}\n").unwrap();
        let out = self.run(&["bootstrap", "--config", &bad.display().to_string(), "--yes"]);
        assert_eq!(out.status.code(), Some(2), "{}", out.text);
        assert!(
            out.text.contains("controlPlane") && out.text.contains(":5:3"),
            "{}",
            out.text
        );

        let truncated = self.folder.join("truncated");
        fs::create_dir(&truncated).unwrap();
        for name in ["oci-layout", "index.json"] {
            fs::copy(self.bundle.join(name), truncated.join(name)).unwrap();
        }
        let out = self.run(&[
            "bootstrap",
            "--config",
            &self.config(),
            "--bundle",
            &truncated.display().to_string(),
            "--yes",
        ]);
        assert!(
            !out.status.success() && out.text.contains("nothing was changed"),
            "{}",
            out.text
        );

        let mut no_docker = self.command(&["bootstrap", "--config", &self.config(), "--yes"]);
        let out = no_docker.env("PATH", "/nowhere").output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(3), "{text}");
        assert!(text.contains("docker") && text.contains("fix:"), "{text}");

        let out = self
            .command(&["bootstrap", "--config", &self.config(), "--yes"])
            .env("DOCKER_HOST", "unix:///nowhere.sock")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(3), "{text}");
        assert!(text.contains("no Docker engine answers"), "{text}");
        assert!(
            !self.state_folder().exists(),
            "refused input made a state directory"
        );
    }

    /// The CA's private key is planted by the run itself: it is the cluster's now, and on this host nowhere any more.
    pub fn no_secret_leaked(&self, key: &str) {
        assert!(
            !self.state_folder().join("ca.key").exists(),
            "the CA's key stayed after the handover"
        );
        let secret: Vec<&str> = key.lines().filter(|l| !l.starts_with("-----")).collect();
        let needle = secret.first().expect("a key has content");
        for file in ["journal.jsonl", "move.jsonl", "request.json"] {
            let text = fs::read_to_string(self.state_folder().join(file)).unwrap();
            assert!(!text.contains(needle), "{file} holds the CA's private key");
        }
        let registry = format!("mctl-{}-registry", self.name);
        for args in [vec!["inspect", &registry], vec!["logs", &registry]] {
            let out = Command::new("docker").args(&args).output().unwrap();
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            );
            assert!(
                !text.contains(needle),
                "docker {args:?} shows the CA's private key"
            );
        }
    }
}
