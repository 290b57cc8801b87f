//! Builds the layers of one image from its pins, each recipe once; must not start a container engine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cache::{Cache, hash_sources, remove_tree};
use super::debian::Debian;
use super::layer::{self, Blob};
use super::pins::{Image, ModuleFiles, Pins, Root, data_dir};
use super::proc::Run;
use super::programs::Builder;

/// Builds images into the cache.
#[derive(Debug)]
pub struct Images<'a> {
    /// Where layers are kept.
    pub cache: &'a Cache,
    /// What they are made of.
    pub pins: &'a Pins,
    /// Debian's part.
    pub debian: &'a Debian<'a>,
    /// The programs.
    pub builder: &'a Builder<'a>,
}

impl Images<'_> {
    /// What the image's own layer is made of; see also [`Images::root_recipe`].
    pub fn recipe(&self, image: &Image) -> Result<Value> {
        let mut programs = BTreeMap::new();
        for reference in image.programs.values() {
            let (program, _) = self.pins.program_of(reference)?;
            programs.insert(&program.name, self.builder.recipe(program)?);
        }
        let mut sources = Vec::new();
        for path in image.overlay.iter().chain(&image.setup) {
            sources.push(hash_sources(&data_dir().join(path))?);
        }
        let names: Vec<String> = image.debs.keys().cloned().collect();
        let root = match &image.root {
            // A layer of its own, which this one does not depend on.
            Some(_) if image.setup.is_none() => Value::Null,
            Some(name) => self.root_recipe(self.pins.root(name)?),
            None => json!(
                self.debian
                    .locked(&[self.pins.static_certificates().to_owned()])?
            ),
        };
        Ok(json!({
            "image": 1, "pin": image, "programs": programs, "sources": sources,
            "debs": self.debian.locked(&names)?, "root": root, "epoch": self.pins.epoch,
        }))
    }

    /// What a Debian root is made of.
    pub fn root_recipe(&self, root: &Root) -> Value {
        json!({"root": 1, "pin": root, "epoch": self.pins.epoch})
    }

    /// Whether the image's layers are there already.
    pub fn is_made(&self, image: &Image) -> Result<bool> {
        Ok(self.cache.entry("layers", &self.recipe(image)?).exists())
    }

    /// The image's layers, the lowest first, made when missing.
    pub fn layers(&self, image: &Image) -> Result<Vec<(PathBuf, Blob)>> {
        let mut layers = Vec::new();
        let shared = self.shared_root(image)?;
        if let Some(root) = shared {
            layers.push(self.root_layer(root)?);
        }
        let entry = self
            .cache
            .get_or_make("layers", &self.recipe(image)?, |dir| {
                let root = dir.join("root");
                fs::create_dir_all(&root)?;
                self.fill(image, &root, shared.is_some())?;
                let blob = layer::pack(
                    &root,
                    self.pins.epoch,
                    &image.capabilities,
                    &dir.join("layer.tar"),
                )?;
                remove_tree(&root)?;
                Ok(fs::write(
                    dir.join("layer.json"),
                    serde_json::to_vec(&blob)?,
                )?)
            })?;
        layers.push(read_layer(&entry)?);
        Ok(layers)
    }

    /// The root that is a layer of its own below the image; a setup script changes the root, which is then the image's.
    fn shared_root(&self, image: &Image) -> Result<Option<&Root>> {
        match &image.root {
            Some(name) if image.setup.is_none() => Ok(Some(self.pins.root(name)?)),
            _ => Ok(None),
        }
    }

    /// A Debian root as a tar file.
    pub fn root_tar(&self, root: &Root) -> Result<PathBuf> {
        let entry = self
            .cache
            .get_or_make("roots", &self.root_recipe(root), |dir| {
                let mut run = Run::new("mmdebstrap")
                    .args(["--mode=root", "--format=tar", "--architectures=amd64"])
                    .arg(format!("--variant={}", root.variant))
                    .arg(format!("--include={}", root.packages.join(",")))
                    .arg(format!("--keyring={}", self.debian.keyring().display()));
                for path in &root.exclude {
                    run = run.arg(format!("--dpkgopt=path-exclude={path}"));
                }
                if self.debian.past_valid_until(&root.suite) {
                    run = run.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
                }
                run.arg(&root.suite)
                    .arg(dir.join("root.tar"))
                    .arg(self.debian.source_line(&root.suite)?)
                    .env("SOURCE_DATE_EPOCH", self.pins.epoch.to_string())
                    .log(&self.cache.join(format!("logs/root-{}.log", root.name)))
                    .ok()
            })?;
        Ok(entry.join("root.tar"))
    }

    fn root_layer(&self, root: &Root) -> Result<(PathBuf, Blob)> {
        let recipe = json!({"layer-of": self.root_recipe(root)});
        let entry = self.cache.get_or_make("layers", &recipe, |dir| {
            let folder = dir.join("root");
            unpack_root(&self.root_tar(root)?, &folder)?;
            let blob = layer::pack(
                &folder,
                self.pins.epoch,
                &BTreeMap::new(),
                &dir.join("layer.tar"),
            )?;
            remove_tree(&folder)?;
            Ok(fs::write(
                dir.join("layer.json"),
                serde_json::to_vec(&blob)?,
            )?)
        })?;
        read_layer(&entry)
    }

    /// Puts everything of the image into a folder; what a shared layer below brings is not repeated.
    fn fill(&self, image: &Image, root: &Path, shared: bool) -> Result<()> {
        match &image.root {
            Some(name) if !shared => unpack_root(&self.root_tar(self.pins.root(name)?)?, root)?,
            Some(_) => {}
            None => self.static_files(root)?,
        }
        self.take_debs(image, root)?;
        for files in &image.files {
            self.copy_module_files(files, root)?;
        }
        if let Some(overlay) = &image.overlay {
            copy_tree(&data_dir().join(overlay), root, &[], None)?;
        }
        for (path, reference) in &image.programs {
            let (program, executable) = self.pins.program_of(reference)?;
            let from = self.builder.build(program)?.join(executable);
            copy_file(&from, &inside(root, path), 0o755)?;
        }
        for (path, target) in &image.links {
            let link = inside(root, path);
            make_parent(&link)?;
            symlink(target, &link).with_context(|| format!("cannot link {path}"))?;
        }
        for (path, owner) in &image.folders {
            let folder = inside(root, path);
            fs::create_dir_all(&folder)?;
            chown(&folder, Some(*owner), Some(*owner))?;
        }
        if let Some(script) = &image.setup {
            let inner = root.join("setup.sh");
            copy_file(&data_dir().join(script), &inner, 0o755)?;
            Run::new("chroot")
                .arg(root)
                .arg("/setup.sh")
                .env(
                    "PATH",
                    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                )
                .env("HOME", "/root")
                .log(&self.cache.join("logs/setup.log"))
                .ok()?;
            fs::remove_file(&inner)?;
        }
        Ok(())
    }

    /// What a static program needs besides itself.
    fn static_files(&self, root: &Path) -> Result<()> {
        let bundle = self.certificates()?;
        copy_file(
            &bundle,
            &root.join("etc/ssl/certs/ca-certificates.crt"),
            0o644,
        )?;
        for (path, text) in [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n\
                 nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
            ),
            (
                "etc/group",
                "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n",
            ),
            ("etc/nsswitch.conf", "hosts: files dns\n"),
        ] {
            fs::write(root.join(path), text)?;
        }
        for (path, mode, owner) in [
            ("tmp", 0o1777, 0),
            ("home/nonroot", 0o700, 65532),
            ("root", 0o700, 0),
        ] {
            let folder = root.join(path);
            fs::create_dir_all(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
            chown(&folder, Some(owner), Some(owner))?;
        }
        Ok(())
    }

    /// Debian's certificate authorities in one file, as its own script would join them.
    fn certificates(&self) -> Result<PathBuf> {
        let name = self.pins.static_certificates().to_owned();
        let recipe =
            json!({"certificates": 1, "deb": self.debian.locked(std::slice::from_ref(&name))?});
        let entry = self.cache.get_or_make("files", &recipe, |dir| {
            let debs = self
                .debian
                .fetch(std::slice::from_ref(&name), &dir.join("debs"))?;
            let root = dir.join("root");
            self.debian.unpack(&debs, &root)?;
            let mut files = Vec::new();
            for file in fs::read_dir(root.join("usr/share/ca-certificates/mozilla"))? {
                files.push(file?.path());
            }
            files.sort();
            let mut text = String::new();
            for file in files {
                text.push_str(fs::read_to_string(&file)?.trim_end());
                text.push('\n');
            }
            fs::write(dir.join("ca-certificates.crt"), text)?;
            remove_tree(&root)?;
            remove_tree(&dir.join("debs"))
        })?;
        Ok(entry.join("ca-certificates.crt"))
    }

    fn take_debs(&self, image: &Image, root: &Path) -> Result<()> {
        if image.debs.is_empty() {
            return Ok(());
        }
        let work = self.cache.work_dir("debs")?;
        let names: Vec<String> = image.debs.keys().cloned().collect();
        let debs = self.debian.fetch(&names, &work.join("files"))?;
        for ((name, paths), deb) in image.debs.iter().zip(debs) {
            let unpacked = work.join("root");
            self.debian.unpack(&[deb], &unpacked)?;
            for path in paths {
                copy_tree(&unpacked.join(path), &root.join(path), &[], None)
                    .with_context(|| format!("{name} has no {path}"))?;
            }
            remove_tree(&unpacked)?;
        }
        remove_tree(&work)
    }

    fn copy_module_files(&self, files: &ModuleFiles, root: &Path) -> Result<()> {
        let from = self.builder.module_dir(&files.module)?.join(&files.from);
        let except: Vec<PathBuf> = files.except.iter().map(|e| from.join(e)).collect();
        let mode = if files.executable { 0o755 } else { 0o644 };
        copy_tree(&from, &inside(root, &files.to), &except, Some(mode))
            .with_context(|| format!("cannot take {} of {}", files.from, files.module))
    }
}

fn read_layer(entry: &Path) -> Result<(PathBuf, Blob)> {
    let bytes = fs::read(entry.join("layer.json"))
        .with_context(|| format!("{} is not whole", entry.display()))?;
    Ok((entry.join("layer.tar"), serde_json::from_slice(&bytes)?))
}

fn unpack_root(tar: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    // The host's tar keeps owners, devices (the set-up script writes to /dev/null) and links as they are.
    Run::new("tar")
        .args(["--numeric-owner", "-xpf"])
        .arg(tar)
        .arg("-C")
        .arg(folder)
        .ok()
}

/// A path of the image in a folder.
fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
        }
        None => Ok(()),
    }
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_parent(to)?;
    let _ = fs::remove_file(to);
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Copies a file or folder; links stay links. Without a mode, files keep whether they are executable.
fn copy_tree(from: &Path, to: &Path, except: &[PathBuf], mode: Option<u32>) -> Result<()> {
    if except.iter().any(|e| e == from) {
        return Ok(());
    }
    let meta =
        fs::symlink_metadata(from).with_context(|| format!("{} is missing", from.display()))?;
    if meta.is_dir() {
        fs::create_dir_all(to)?;
        let mut entries: Vec<_> = fs::read_dir(from)?.collect::<std::io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            copy_tree(&entry.path(), &to.join(entry.file_name()), except, mode)?;
        }
        return Ok(());
    }
    if meta.is_symlink() {
        make_parent(to)?;
        let _ = fs::remove_file(to);
        return Ok(symlink(fs::read_link(from)?, to)?);
    }
    let executable = meta.permissions().mode() & 0o111 != 0;
    copy_file(
        from,
        to,
        mode.unwrap_or(if executable { 0o755 } else { 0o644 }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_keep_links_and_leave_out_what_is_excepted() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("tests")).unwrap();
        fs::write(from.join("tests/t.c"), "").unwrap();
        fs::write(from.join("a.sh"), "").unwrap();
        fs::set_permissions(from.join("a.sh"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("a.sh", from.join("link")).unwrap();
        let to = dir.path().join("to");
        copy_tree(&from, &to, &[from.join("tests")], None).unwrap();
        assert!(!to.join("tests").exists());
        assert_eq!(
            fs::metadata(to.join("a.sh")).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            PathBuf::from("a.sh")
        );
        assert!(copy_tree(&from.join("nothing"), &to, &[], None).is_err());
    }
}
