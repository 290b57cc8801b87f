//! Bad documents from `cases.txt`: every message, its place and its fix are exact, and all come in one pass.

use mctl::config::{self, Known};

const CASES: &str = include_str!("cases.txt");
const HEAD: &str = "apiVersion: mctl.giantswarm.io/v1alpha1\nkind: ManagementCluster\nmetadata: {name: golem}\nspec:\n";
const COMPONENTS: &[(&str, bool)] = &[("cilium", true), ("kyverno", false), ("monitoring", false)];

struct Case {
    title: String,
    text: String,
    /// Line, column and length of every mark.
    marks: Vec<(usize, usize, usize)>,
    messages: Vec<String>,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in CASES.lines() {
        if let Some(title) = line.strip_prefix("== ").or(line.strip_prefix("=> ")) {
            let head = if line.starts_with("=>") { HEAD } else { "" };
            cases.push(Case {
                title: title.to_owned(),
                text: head.to_owned(),
                marks: Vec::new(),
                messages: Vec::new(),
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            continue;
        };
        if let Some(message) = line.strip_prefix("-- ") {
            case.messages.push(message.to_owned());
        } else if case.messages.is_empty() && !line.is_empty() {
            let number = case.text.lines().count() + 1;
            let mut open = 0;
            let mut column = 1;
            for c in line.chars() {
                match c {
                    '«' => open = column,
                    '»' => case.marks.push((number, open, column - open)),
                    c => {
                        case.text.push(c);
                        column += 1;
                    }
                }
            }
            case.text.push('\n');
        }
    }
    cases
}

#[test]
fn bad_documents_are_explained_exactly() {
    let cases = cases();
    assert!(cases.len() >= 120, "{} cases", cases.len());
    let known: Vec<Known<'_>> = COMPONENTS
        .iter()
        .map(|&(name, required)| Known { name, required })
        .collect();
    let mut wrong = String::new();
    for case in &cases {
        let (mut marks, mut messages) = (Vec::new(), Vec::new());
        if let Err(problems) = config::load_for(&case.text, "mc.yaml", &known) {
            for p in problems.list() {
                marks.extend(p.span.map(|s| (s.line, s.column, s.len)));
                messages.push(format!("{}: {} | {}", p.path, p.what, p.fix));
            }
        }
        if messages != case.messages {
            wrong += &format!(
                "\n{}: messages\n  wanted {:#?}\n  found {messages:#?}\n",
                case.title, case.messages
            );
        }
        if marks != case.marks {
            wrong += &format!(
                "\n{}: places\n  wanted {:?}\n  found  {marks:?}\n",
                case.title, case.marks
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
