//! Takes the Docker engine's own packet filter rules away again; must leave every other rule alone.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::proc::{Run, which};

/// Policies of the filter table's chains before the engine started, by address family.
#[derive(Debug, Serialize, Deserialize)]
pub struct Before {
    policies: BTreeMap<String, BTreeMap<String, String>>,
}

const FAMILIES: [&str; 2] = ["iptables", "ip6tables"];

/// Notes what an engine changes without taking it back itself: the chains' policies.
pub fn before() -> Result<Before> {
    let mut policies = BTreeMap::new();
    for family in FAMILIES {
        if which(&format!("{family}-save")).is_some() {
            policies.insert(
                family.to_owned(),
                chain_policies(&Run::new(format!("{family}-save")).output()?),
            );
        }
    }
    Ok(Before { policies })
}

/// Removes the rules and chains that are Docker's and puts the policies back.
pub fn restore(before: &Before) -> Result<()> {
    for (family, policies) in &before.policies {
        let now = Run::new(format!("{family}-save")).output()?;
        for step in undo(&now, policies) {
            Run::new(family).args(step).ok()?;
        }
    }
    Ok(())
}

/// `table/chain` to policy, built-in chains only.
fn chain_policies(save: &str) -> BTreeMap<String, String> {
    let mut table = "";
    let mut found = BTreeMap::new();
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rest) = line.strip_prefix(':') {
            let mut words = rest.split(' ');
            if let (Some(chain), Some(policy)) = (words.next(), words.next())
                && policy != "-"
            {
                found.insert(format!("{table}/{chain}"), policy.to_owned());
            }
        }
    }
    found
}

/// Commands (arguments of iptables) that take Docker's part out of a saved rule set.
fn undo(save: &str, policies: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let (mut delete, mut flush, mut drop, mut policy) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut table = "";
    let command = |table: &str, words: &[&str]| -> Vec<String> {
        ["-w", "-t", table]
            .iter()
            .chain(words)
            .map(|w| (*w).to_owned())
            .collect()
    };
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rest) = line.strip_prefix(':') {
            let chain = rest.split(' ').next().unwrap_or_default();
            if chain.starts_with("DOCKER") {
                flush.push(command(table, &["-F", chain]));
                drop.push(command(table, &["-X", chain]));
            }
        } else if let Some(rule) = line.strip_prefix("-A ")
            && is_docker_rule(rule)
        {
            // Rules in Docker's own chains go with the chain.
            let words = split_words(rule);
            if !rule.starts_with("DOCKER") {
                delete.push(command(
                    table,
                    &[
                        &["-D"],
                        &words.iter().map(String::as_str).collect::<Vec<_>>()[..],
                    ]
                    .concat(),
                ));
            }
        }
    }
    for (key, value) in chain_policies(save) {
        // A table that nobody had used yet was not there to be saved; its chains accept.
        let old = policies.get(&key).map_or("ACCEPT", String::as_str);
        if old != value
            && let Some((table, chain)) = key.split_once('/')
        {
            policy.push(command(table, &["-P", chain, old]));
        }
    }
    [delete, flush, drop, policy].concat()
}

fn is_docker_rule(rule: &str) -> bool {
    let words: Vec<&str> = rule.split(' ').collect();
    words.first().is_some_and(|chain| chain.starts_with("DOCKER"))
        || words.windows(2).any(|pair| match pair {
            ["-j" | "-g", target] => target.starts_with("DOCKER"),
            ["-i" | "-o", link] => *link == "docker0" || (link.starts_with("br-") && link.len() == 15),
            _ => false,
        })
        // Addresses of the engine's networks, masqueraded unless they leave by the bridge itself.
        || (rule.starts_with("POSTROUTING ") && rule.contains("! -o docker0"))
}

/// Splits a saved rule into arguments; comments may be quoted.
fn split_words(rule: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in rule.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|w| !w.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -s 10.0.0.0/8 -m comment --comment \"my own rule\" -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -o br-0123456789ab -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
";

    #[test]
    fn docker_s_rules_go_and_others_stay() {
        let before = BTreeMap::from([("nat/POSTROUTING".to_owned(), "ACCEPT".to_owned())]);
        let steps: Vec<String> = undo(AFTER, &before).iter().map(|s| s.join(" ")).collect();
        assert_eq!(
            steps,
            [
                "-w -t filter -D FORWARD -j DOCKER-USER",
                "-w -t filter -D FORWARD -o br-0123456789ab -j DOCKER",
                "-w -t filter -D FORWARD -i docker0 ! -o docker0 -j ACCEPT",
                "-w -t nat -D POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
                "-w -t filter -F DOCKER",
                "-w -t filter -F DOCKER-USER",
                "-w -t nat -F DOCKER",
                "-w -t filter -X DOCKER",
                "-w -t filter -X DOCKER-USER",
                "-w -t nat -X DOCKER",
                "-w -t filter -P FORWARD ACCEPT",
            ]
        );
    }

    #[test]
    fn a_clean_machine_needs_nothing() {
        let clean = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i eth0 -j ACCEPT\nCOMMIT\n";
        assert!(undo(clean, &chain_policies(clean)).is_empty());
    }

    #[test]
    fn quoted_comments_stay_one_word() {
        assert_eq!(
            split_words("INPUT -m comment --comment \"a b\" -j ACCEPT")[4],
            "a b"
        );
    }
}
