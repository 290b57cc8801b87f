//! Types of `xtask/lab/pins.toml`; must not fetch or build anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::deb_lock::split_deb;

/// Everything the lab builds from, in one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Time of every file in every layer, in seconds: layers of equal content are equal.
    pub epoch: u64,
    /// Free disk that a first run needs, in GiB.
    pub disk_gib: u64,
    /// Programs that the machine itself uses: link name below `bin/` to `program/executable`.
    pub host_programs: BTreeMap<String, String>,
    /// Debian's part.
    pub debian: Debian,
    /// The Docker engine.
    pub engine: Engine,
    /// The profile in the bundle.
    pub profile: Profile,
    /// Pulling instead of building.
    pub registries: Registries,
    /// Libraries of the programs.
    pub libraries: Shared,
    /// Debian root file systems.
    #[serde(rename = "root")]
    pub roots: Vec<Root>,
    /// Programs built from source.
    #[serde(rename = "program")]
    pub programs: Vec<Program>,
    /// Images in the bundle.
    #[serde(rename = "image")]
    pub images: Vec<Image>,
}

/// The profile that the bundle carries.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its reference in the bundle.
    pub name: String,
    /// File below the data folder.
    pub file: String,
}

/// What is pulled where registries can be reached.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registries {
    /// Programs that the machine itself needs for it: name to package.
    pub host: BTreeMap<String, String>,
    /// Profile of such a bundle, below the data folder.
    pub profile: String,
    /// Images that no registry has.
    pub skip: Vec<String>,
    /// Images that are not built here.
    pub more: Vec<String>,
    /// Image of the lab to the one that its project publishes.
    pub instead: BTreeMap<String, String>,
}

/// Go modules that several programs are built with; their versions are in `libraries.lock`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// Modules of which every program keeps its own version.
    pub apart: Vec<String>,
}

/// Which runs need a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Bootstrap and the tests.
    #[default]
    Main,
    /// Only what is run by hand and takes long.
    Long,
}

/// One Debian root, made by mmdebstrap.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// What images call it.
    pub name: String,
    /// Release.
    pub suite: String,
    /// mmdebstrap's variant.
    pub variant: String,
    /// Packages on top of the variant.
    pub packages: Vec<String>,
    /// Paths that are not unpacked.
    pub exclude: Vec<String>,
}

/// Programs of one consumer module, built together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// What images and the host's programs call it.
    pub name: String,
    /// Which runs need it; what it is made of does not depend on that.
    #[serde(default, skip_serializing)]
    pub tier: Tier,
    /// Go modules, `path@version`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Keeps its own versions of the libraries: it does not compile with those that the others share.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_libraries: bool,
    /// Released version that stands for replaces by a folder of the module's own repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_replaces: Option<String>,
    /// Replaces that win over the module's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaces: BTreeMap<String, String>,
    /// Modules replaced by our own code: module path to folder below the data folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shims: BTreeMap<String, String>,
    /// Build tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// String variables set by the linker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Executable to package.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Instead of Go: one C file below the data folder; the executable has the program's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c: Option<String>,
}

impl Program {
    /// Files of our own that it is built from.
    pub fn sources(&self) -> impl Iterator<Item = &String> {
        self.shims.values().chain(&self.c)
    }

    /// Paths of its modules.
    pub fn module_paths(&self) -> impl Iterator<Item = &str> {
        self.modules
            .iter()
            .filter_map(|module| Some(module.split_once('@')?.0))
    }

    /// Whether its libraries have the versions that all programs share.
    pub fn shares_libraries(&self) -> bool {
        self.c.is_none() && !self.own_libraries
    }

    /// Names of its executables.
    pub fn executables(&self) -> Vec<&str> {
        match &self.c {
            Some(_) => vec![self.name.as_str()],
            None => self.outputs.keys().map(String::as_str).collect(),
        }
    }
}

/// One image in the bundle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its full upstream reference.
    pub name: String,
    /// Root below it: a Debian root, or none for static programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Path in the image to `program/executable`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, String>,
    /// Locked Debian packages unpacked into it, without their scripts: package to the paths that are taken.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub debs: BTreeMap<String, Vec<String>>,
    /// Files of a Go module.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ModuleFiles>,
    /// Folder below the data folder that is copied over the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<String>,
    /// Script of the overlay's parent folder, run in the root before it is packed; needs a Debian root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
    /// Symbolic links: path to target.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// Folders: path to owner, the rest is made with 0755 and root.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub folders: BTreeMap<String, u32>,
    /// File capabilities: path to capability number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, u32>,
    /// Command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Default arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Numeric user, and group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Environment besides PATH.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Signal that stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// Files of a Go module in an image.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleFiles {
    /// `path@version`.
    pub module: String,
    /// Folder or file in the module.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// Parts left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// Files are executable.
    #[serde(default)]
    pub executable: bool,
}

/// How Debian packages are reached.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Keyring that signs the suites.
    pub keyring: PathBuf,
    /// Suites whose lists are taken although their Valid-Until is over.
    pub past_valid_until: Vec<String>,
    /// Locked package with the certificate authorities of images without a Debian root.
    pub certificates: String,
    /// Programs the machine itself needs: name to package.
    pub host: BTreeMap<String, String>,
}

/// The lab's own Docker engine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Locked packages, `suite/package`.
    pub debs: Vec<String>,
    /// Packages of the machine's own release.
    pub host_debs: Vec<String>,
    /// Kernel settings and the least value they need.
    pub sysctls: BTreeMap<String, u64>,
    /// Further kernel settings that the engine or the clusters in it change; put back when it stops.
    pub restore_sysctls: Vec<String>,
}

impl Pins {
    /// Reads the pins of this checkout.
    pub fn load() -> Result<Self> {
        let path = data_dir().join("pins.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let pins: Self = toml::from_str(&text)
            .with_context(|| format!("{} is not as expected", path.display()))?;
        pins.check()
            .with_context(|| format!("{}", path.display()))?;
        Ok(pins)
    }

    /// Every locked Debian package that is used, as suite and name.
    pub fn debs(&self) -> Result<BTreeSet<(String, String)>> {
        let used = self.images.iter().flat_map(|i| i.debs.keys());
        let own = [self.static_certificates()];
        self.engine
            .debs
            .iter()
            .chain(used)
            .map(String::as_str)
            .chain(own)
            .map(split_deb)
            .collect()
    }

    /// Package with the certificate authorities of images without a Debian root.
    pub fn static_certificates(&self) -> &str {
        &self.debian.certificates
    }

    /// The program of a reference `program/executable`.
    pub fn program_of<'a>(&'a self, reference: &'a str) -> Result<(&'a Program, &'a str)> {
        let (name, executable) = reference
            .split_once('/')
            .with_context(|| format!("{reference:?} is not program/executable"))?;
        let program = self
            .programs
            .iter()
            .find(|p| p.name == name)
            .with_context(|| {
                format!("pins.toml has no program {name:?}, which {reference:?} names")
            })?;
        if !program.executables().contains(&executable) {
            bail!("program {name:?} has no executable {executable:?}");
        }
        Ok((program, executable))
    }

    /// Programs of the tiers up to this one.
    pub fn programs_of(&self, tier: Tier) -> impl Iterator<Item = &Program> {
        self.programs.iter().filter(move |p| p.tier <= tier)
    }

    /// Images of the tiers up to this one.
    pub fn images_of(&self, tier: Tier) -> Result<Vec<&Image>> {
        let mut found = Vec::new();
        for image in &self.images {
            if self.image_tier(image)? <= tier {
                found.push(image);
            }
        }
        Ok(found)
    }

    /// An image is as late as the latest of its programs.
    fn image_tier(&self, image: &Image) -> Result<Tier> {
        let mut tier = Tier::Main;
        for reference in image.programs.values() {
            tier = tier.max(self.program_of(reference)?.0.tier);
        }
        Ok(tier)
    }

    /// The root of a name.
    pub fn root(&self, name: &str) -> Result<&Root> {
        self.roots
            .iter()
            .find(|r| r.name == name)
            .with_context(|| format!("pins.toml has no root {name:?}"))
    }

    /// Checks that every name is there and used as it can be.
    fn check(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for image in &self.images {
            if !names.insert(&image.name) {
                bail!("image {} is there twice", image.name);
            }
            for reference in image.programs.values() {
                self.program_of(reference)
                    .with_context(|| image.name.clone())?;
            }
            if let Some(root) = &image.root {
                self.root(root).with_context(|| image.name.clone())?;
            } else if image.setup.is_some() {
                bail!("image {}: a setup script needs a root", image.name);
            }
        }
        for reference in self.host_programs.values() {
            self.program_of(reference).context("host_programs")?;
        }
        Ok(())
    }
}

/// Folder of the lab's data files in the checkout.
pub fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab")
}

#[cfg(test)]
mod tests {
    use super::super::deb_lock::DebLock;
    use super::*;

    #[test]
    fn the_committed_pins_are_whole() {
        let pins = Pins::load().unwrap();
        let lock = DebLock::load().unwrap();
        for (suite, package) in pins.debs().unwrap() {
            lock.get(&format!("{suite}/{package}")).unwrap();
        }
        for image in &pins.images {
            assert!(
                image.name.split('/').next().unwrap().contains('.'),
                "{} names no registry",
                image.name
            );
            assert!(image.name.contains(':'), "{} has no tag", image.name);
            for folder in image.overlay.iter().chain(&image.setup) {
                assert!(data_dir().join(folder).exists(), "{folder} is missing");
            }
        }
        assert!(data_dir().join(&pins.profile.file).exists());
    }

    #[test]
    fn every_program_is_used() {
        let pins = Pins::load().unwrap();
        let used: BTreeSet<&str> = pins
            .images
            .iter()
            .flat_map(|i| i.programs.values())
            .chain(pins.host_programs.values())
            .map(|r| r.split('/').next().unwrap())
            .collect();
        for program in &pins.programs {
            assert!(
                used.contains(program.name.as_str()),
                "{} is used by nothing",
                program.name
            );
        }
    }

    /// Everything below a folder of the checkout, as one text.
    fn texts(folders: &[&str]) -> String {
        let mut all = String::new();
        for folder in folders {
            let folder = crate::host::root().join(folder);
            for file in crate::host::files_under(&folder).unwrap() {
                all += &String::from_utf8_lossy(&fs::read(folder.join(file)).unwrap());
            }
        }
        all
    }

    #[test]
    fn what_the_catalog_or_a_test_needs_is_in_the_main_tier() {
        let mut pins = Pins::load().unwrap();
        let product = texts(&["embedded", "providers", "src"]);
        let tests = texts(&["tests"]);
        let wrong = |pins: &Pins| -> Vec<String> {
            // Of Kubernetes itself kubeadm chooses the images, not the catalog.
            let kubernetes = ["kubernetes", "etcd", "coredns", "pause", "crictl"];
            let images = pins.images.iter().filter(|image| {
                let named = image.name.rsplit_once(':').unwrap().0;
                product.contains(named)
                    || image
                        .programs
                        .values()
                        .any(|r| kubernetes.contains(&r.split('/').next().unwrap()))
            });
            let hosts = pins
                .host_programs
                .iter()
                .filter(|(name, _)| tests.contains(&format!("\"{name}\"")));
            images
                .filter(|image| pins.image_tier(image).unwrap() == Tier::Long)
                .map(|image| image.name.clone())
                .chain(
                    hosts
                        .filter(|(_, r)| pins.program_of(r).unwrap().0.tier == Tier::Long)
                        .map(|(name, _)| name.clone()),
                )
                .collect()
        };
        assert_eq!(wrong(&pins), Vec::<String>::new());
        for program in &mut pins.programs {
            program.tier = Tier::Long;
        }
        let all = wrong(&pins);
        for name in [
            "etcd",
            "kube-apiserver",
            "docker.io/kindest/node:v1.36.3",
            "reg.kyverno.io/kyverno/kyverno:v1.19.1",
        ] {
            assert!(
                all.iter().any(|n| n == name),
                "{name} is not seen as needed: {all:?}"
            );
        }
    }

    #[test]
    fn a_tier_holds_the_earlier_ones_and_an_image_is_as_late_as_its_programs() {
        let mut pins = Pins::load().unwrap();
        let all = pins.images.len();
        assert_eq!(pins.images_of(Tier::Long).unwrap().len(), all);
        assert_eq!(pins.programs_of(Tier::Long).count(), pins.programs.len());
        assert!(pins.programs_of(Tier::Main).all(|p| p.name != "clusterctl"));
        let program = pins
            .programs
            .iter_mut()
            .find(|p| p.name == "kyverno")
            .unwrap();
        let before = serde_json::to_value(&*program).unwrap();
        program.tier = Tier::Long;
        assert_eq!(
            before,
            serde_json::to_value(&*program).unwrap(),
            "a tier is no part of a recipe"
        );
        assert_eq!(pins.images_of(Tier::Main).unwrap().len(), all - 5);
    }

    #[test]
    fn unknown_fields_and_names_are_refused() {
        assert!(
            toml::from_str::<Root>(
                "name = 'a'\nsuite = 's'\nvariant = 'v'\npackages = []\nexclude = []\nx = 1"
            )
            .is_err()
        );
        let mut pins = Pins::load().unwrap();
        pins.images[0]
            .programs
            .insert("/x".to_owned(), "nothing/x".to_owned());
        assert!(format!("{:#}", pins.check().unwrap_err()).contains("no program \"nothing\""));
    }
}
