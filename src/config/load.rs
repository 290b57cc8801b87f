//! Reads a document from text: syntax, schema and rules in one pass. Must not touch files.

use serde_json::Value;

use super::{
    check::{Checked, check},
    problem::{Path, Problem, Problems, Span, lines_of, shown},
    scalar::{self, Plain},
    schema,
    tree::{self, Node, NodeKind},
    types::ManagementCluster,
    validate::{self, Known},
};

/// Reads a document; `file` is its name in messages. All problems are reported at once.
pub fn load(text: &str, file: &str) -> Result<ManagementCluster, Problems> {
    load_for::<&str>(text, file, &[])
}

/// As [`load`], and checks the settings of components against those of the catalog (unless there are none).
pub fn load_for<'a, K: Copy + Into<Known<'a>>>(
    text: &str,
    file: &str,
    known_components: &[K],
) -> Result<ManagementCluster, Problems> {
    let known: Vec<Known<'_>> = known_components.iter().map(|k| (*k).into()).collect();
    read(text, &known).map_err(|list| Problems::new(file, text, list))
}

/// The text of a file's bytes.
pub fn decode(bytes: Vec<u8>, file: &str) -> Result<String, Problems> {
    if bytes.len() > tree::MAX_BYTES {
        // Refused by its size; it may be cut within a character.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(e.as_bytes());
        let (line, before) = (1..)
            .zip(lines_of(text.get(..valid).unwrap_or_default()))
            .last()
            .unwrap_or((1, ""));
        let what = match utf16 {
            true => "the file is in UTF-16",
            false => "the file is not UTF-8 text",
        };
        let problem = Problem::new(Path::default(), what, "save the file as UTF-8").at(Span {
            line,
            column: before.chars().count() + 1,
            len: 1,
        });
        Problems::new(file, &text, vec![problem])
    })
}

fn read(text: &str, known_components: &[Known<'_>]) -> Result<ManagementCluster, Vec<Problem>> {
    let (root, mut problems) = tree::parse(text).map_err(|p| vec![*p])?;
    if let Some(problem) = foreign(&root) {
        return Err(vec![problem]);
    }
    let Checked {
        mut value,
        problems: found,
        broken,
    } = check(&root, schema::document());
    problems.extend(found);
    if value.get("spec").is_none() {
        value["spec"] = Value::Object(serde_json::Map::new());
    }
    let document: Option<ManagementCluster> = match serde_json::from_value(value) {
        Ok(document) => Some(document),
        Err(_) if !problems.is_empty() => None,
        // The schema is made from the types, so it lets nothing through that they refuse.
        Err(e) => {
            let what = format!("the document cannot be read: {e}");
            problems.push(Problem::new(
                Path::default(),
                what,
                "report this as a bug of mctl",
            ));
            None
        }
    };
    for mut problem in document
        .iter()
        .flat_map(|d| validate::rules(d, known_components, &broken))
    {
        problem.span = Some(root.locate(&problem.path, problem.at_key));
        problems.push(problem);
    }
    match document {
        Some(document) if problems.is_empty() => Ok(document),
        _ => Err(problems),
    }
}

/// A document of another kind: one sentence says more than all its unknown fields.
fn foreign(root: &Node) -> Option<Problem> {
    let NodeKind::Map(entries) = &root.kind else {
        return None;
    };
    let text = |name: &str| {
        entries
            .iter()
            .find(|e| e.key == name)
            .and_then(|e| match &e.value.kind {
                NodeKind::Scalar { text, plain }
                    if !plain || scalar::plain(text) == Plain::Text =>
                {
                    Some((text.as_str(), e.value.span))
                }
                _ => None,
            })
    };
    let (kind, span) = text("kind")?;
    let ours = |api: &str| api.starts_with(crate::GROUP);
    if strsim::damerau_levenshtein(&kind.to_lowercase(), &schema::KIND.to_lowercase()) <= 4
        || text("apiVersion").is_some_and(|(api, _)| ours(api))
    {
        return None;
    }
    Some(
        Problem::new(
            Path::of("kind"),
            format!("this is a {}, not a `{}`", shown(kind), schema::KIND),
            "give the document of a management cluster; `mctl config init --name NAME` writes one",
        )
        .at(span),
    )
}
