//! YAML manifests taken from modules: joined, split into CRDs and the rest, or built by kustomize; must not change what an object does.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::pins::{Documents, Kustomization, Manifest};
use crate::host;

/// Joins a module's files and keeps the wanted documents.
pub fn join(module: &Path, manifest: &Manifest) -> anyhow::Result<Vec<u8>> {
    let mut result = String::new();
    for pattern in &manifest.files {
        for path in expand(module, pattern)? {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            for document in documents(&text).filter(|document| wanted(document, manifest.documents))
            {
                result.push_str("---\n");
                if manifest.descriptions {
                    result.push_str(document);
                    result.push('\n');
                } else {
                    without_descriptions(document, &mut result);
                }
            }
        }
    }
    if result.is_empty() {
        bail!("none of its documents is wanted");
    }
    Ok(result.into_bytes())
}

/// Builds a kustomization on a copy that can be changed.
pub fn kustomize(program: &Path, module: &Path, item: &Kustomization) -> anyhow::Result<Vec<u8>> {
    let work = tempfile::tempdir()?;
    copy(&module.join(&item.folder), work.path())?;
    for replacement in &item.replace {
        let path = work.path().join(&replacement.file);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}/{}", item.folder, replacement.file))?;
        if !text.contains(&replacement.from) {
            bail!(
                "{}/{} does not contain {:?}",
                item.folder,
                replacement.file,
                replacement.from
            );
        }
        fs::write(&path, text.replace(&replacement.from, &replacement.to))?;
    }
    let bytes = host::output(
        Command::new(program)
            .arg("build")
            .arg(work.path().join(&item.build)),
    )?;
    if bytes.is_empty() {
        bail!("kustomize built nothing");
    }
    Ok(bytes)
}

/// Generates the CRDs of a module's Go types.
pub fn generate(mut controller_gen: Command, module: &Path) -> anyhow::Result<Vec<u8>> {
    let work = tempfile::tempdir()?;
    let (types, crds) = (work.path().join("types"), work.path().join("crds"));
    copy(module, &types)?;
    let output = format!("output:crd:dir={}", crds.display());
    host::output(
        controller_gen
            .current_dir(&types)
            .args(["crd", "paths=./...", &output]),
    )?;
    let wanted = Manifest {
        path: String::new(),
        module: String::new(),
        files: vec!["*.yaml".to_owned()],
        documents: Documents::Crds,
        descriptions: true,
    };
    join(&crds, &wanted)
}

/// Files that a pattern names, sorted; `*` is allowed in the last part only.
fn expand(module: &Path, pattern: &str) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let folder = module.join(folder);
    if !name.contains('*') {
        return Ok(vec![folder.join(name)]);
    }
    let mut found = Vec::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let entry = entry?;
        let file = entry.file_name();
        // kustomize's own file is no object.
        if file != "kustomization.yaml" && super::chart::glob(name, &file.to_string_lossy()) {
            found.push(entry.path());
        }
    }
    if found.is_empty() {
        bail!("no file matches {pattern}");
    }
    found.sort();
    Ok(found)
}

/// Non-empty documents of a YAML stream, without their separators.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix("---\n").unwrap_or(text);
    text.split("\n---\n")
        .map(|document| document.trim_matches('\n'))
        .filter(|document| {
            document
                .lines()
                .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        })
}

fn wanted(document: &str, which: Documents) -> bool {
    let crd = document
        .lines()
        .any(|line| line == "kind: CustomResourceDefinition");
    match which {
        Documents::All => true,
        Documents::Crds => crd,
        Documents::Rest => !crd,
    }
}

/// Leaves out `description: text`, over all its lines. A property that is called so has its type on the lines below
/// and no text of its own, so it stays.
fn without_descriptions(document: &str, result: &mut String) {
    let mut skipped: Option<usize> = None;
    for line in document.lines() {
        let indent = line.len() - line.trim_start().len();
        if skipped.is_some_and(|of| line.trim().is_empty() || indent > of) {
            continue;
        }
        let text = line.trim_start().strip_prefix("description: ");
        skipped = text.map(|_| indent);
        if text.is_none() {
            result.push_str(line);
            result.push('\n');
        }
    }
}

/// Copies a folder; the copies are writable although go's module cache is not.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for file in host::files_under(from)? {
        let target = to.join(&file);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&target, fs::read(from.join(&file))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &str = "---\napiVersion: a\nkind: CustomResourceDefinition\nspec:\n  text: |\n    ---\n---\n# only a comment\n---\nkind: Deployment\n";

    #[test]
    fn a_bundle_splits_into_definitions_and_the_rest() {
        let pick = |which| {
            documents(BUNDLE)
                .filter(|document| wanted(document, which))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            pick(Documents::Crds),
            ["apiVersion: a\nkind: CustomResourceDefinition\nspec:\n  text: |\n    ---"]
        );
        assert_eq!(pick(Documents::Rest), ["kind: Deployment"]);
        assert_eq!(pick(Documents::All).len(), 2);
    }

    #[test]
    fn descriptions_go_but_properties_of_that_name_stay() {
        let mut result = String::new();
        without_descriptions(
            "a:\n  description: |-\n    one\n\n    description: two\n  properties:\n    description:\n      description: 'three\n        four'\n      type: string\n",
            &mut result,
        );
        assert_eq!(
            result,
            "a:\n  properties:\n    description:\n      type: string\n"
        );
    }

    #[test]
    fn files_join_in_the_order_of_their_names() {
        let module = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.yaml", "kind: B\n"),
            ("a.yaml", "---\nkind: A\n"),
            ("kustomization.yaml", "kind: K\n"),
            ("c.txt", "kind: C\n"),
        ] {
            fs::write(module.path().join(name), text).unwrap();
        }
        let manifest = Manifest {
            path: "x".into(),
            module: "x".into(),
            files: vec!["*.yaml".into()],
            documents: Documents::All,
            descriptions: true,
        };
        assert_eq!(
            String::from_utf8(join(module.path(), &manifest).unwrap()).unwrap(),
            "---\nkind: A\n---\nkind: B\n"
        );
    }
}
