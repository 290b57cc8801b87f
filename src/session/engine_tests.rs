//! Which engine is taken, by what several of them say of themselves.

use std::{collections::BTreeMap, path::Path};

use async_trait::async_trait;

use super::*;
use crate::ports::process::{Command, Output, Writer};

const DEFAULT: &str = "unix:///var/run/docker.sock";

/// Engines by address; each says its id, or nothing.
struct Engines(BTreeMap<&'static str, &'static str>);

#[async_trait]
impl Processes for Engines {
    async fn run(&self, command: &Command) -> Result<Output> {
        let host = command.env.get("DOCKER_HOST").map_or(DEFAULT, |h| h);
        let answer = |stdout: String| Output {
            stdout,
            ..Output::default()
        };
        if command.args[0] == "context" {
            return Ok(answer(format!("{DEFAULT}\n")));
        }
        Ok(match self.0.get(host) {
            Some(id) => answer(
                serde_json::json!({"ID": id, "ServerVersion": "28.0.0", "OSType": "linux"})
                    .to_string(),
            ),
            None => Output {
                code: 1,
                stderr: format!("Cannot connect to the Docker daemon at {host}"),
                ..Output::default()
            },
        })
    }

    async fn feed(&self, _: &Command, _: Writer) -> Result<Output> {
        unreachable!("nothing is fed")
    }

    async fn settle(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn end_all(&self) {}
}

fn engines() -> Arc<dyn Processes> {
    Arc::new(Engines(BTreeMap::from([
        (DEFAULT, "one"),
        ("unix:///run/docker.sock", "one"),
        ("tcp://far:2375", "two"),
    ])))
}

fn recorded(address: Option<&str>, id: &str) -> Recorded {
    Recorded {
        address: address.map(str::to_owned),
        id: id.into(),
    }
}

#[tokio::test]
async fn the_first_time_the_shell_decides_and_it_is_remembered() {
    let chosen = choose(engines(), None, None).await.unwrap();
    assert_eq!(chosen.recorded, recorded(Some(DEFAULT), "one"));
    let shell = Some("tcp://far:2375".to_owned());
    let chosen = choose(engines(), None, shell).await.unwrap();
    assert_eq!(chosen.recorded, recorded(Some("tcp://far:2375"), "two"));
}

#[tokio::test]
async fn the_recorded_engine_wins_and_may_have_a_second_name() {
    let record = recorded(Some(DEFAULT), "one");
    for shell in [None, Some(DEFAULT), Some("unix:///run/docker.sock")] {
        let shell = shell.map(str::to_owned);
        let chosen = choose(engines(), Some(&record), shell).await.unwrap();
        assert_eq!(chosen.docker.host.as_deref(), Some(DEFAULT));
        assert_eq!(chosen.recorded, record);
    }
}

#[tokio::test]
async fn another_engine_is_refused_with_both_named() {
    let record = recorded(Some(DEFAULT), "one");
    for shell in ["tcp://far:2375", "unix:///nowhere.sock"] {
        let e = choose(engines(), Some(&record), Some(shell.into()))
            .await
            .unwrap_err();
        assert_eq!(e.kind(), Kind::Usage);
        let text = e.to_string();
        for part in [
            shell,
            DEFAULT,
            "one",
            "unset DOCKER_HOST",
            "nothing was changed",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[tokio::test]
async fn another_engine_in_the_place_of_the_recorded_one_is_refused() {
    let record = recorded(Some(DEFAULT), "zero");
    let e = choose(engines(), Some(&record), None).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Usage);
    let text = e.to_string();
    assert!(text.contains("zero") && text.contains("one"), "{text}");
}

#[tokio::test]
async fn an_engine_that_is_away_is_not_replaced_by_another() {
    let record = recorded(Some("unix:///gone.sock"), "three");
    let e = choose(engines(), Some(&record), None).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Preflight);
    assert!(e.to_string().contains("unix:///gone.sock"), "{e}");
}
